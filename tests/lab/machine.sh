#!/bin/bash
# PID 1 of one machine, in namespaces of its own: a root file system like a fresh image's, an SSH server, and the user data
# run as cloud-init would. FOLDER holds the user data and the keys, and keeps the logs.
set -eu
seed=$1 address=$2 user=$3 delay=$4 endpoint=$5

disk=$seed/disk
mkdir "$disk" "$seed/log"
mount -t tmpfs -o mode=755,size=8g machine "$disk"
mkdir "$disk/upper" "$disk/work" "$disk/root"
mount -t overlay -o "lowerdir=/,upperdir=$disk/upper,workdir=$disk/work" machine "$disk/root"
cd "$disk/root"

# Of this computer's files a machine sees the operating system alone.
for entry in *; do
  [[ -d $entry && ! -L $entry ]] || continue
  case $entry in
    bin | sbin | lib* | usr | etc | var) ;;
    *) mount -t tmpfs -o mode=755,size=8g machine "$entry" ;;
  esac
done
for entry in usr/local/* var/log var/tmp; do
  [[ ! -d $entry || -L $entry ]] || mount -t tmpfs -o mode=755 machine "$entry"
done
mkdir -p tmp opt run/sshd home dev/pts dev/shm usr/local/bin
chmod 1777 tmp var/tmp dev/shm
chmod 700 root
mount --bind "$seed/log" var/log
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 devpts dev/pts
mount -t tmpfs -o mode=1777 machine dev/shm
for device in null:3 zero:5 full:7 random:8 urandom:9; do mknod -m 666 "dev/${device%:*}" c 1 "${device#*:}"; done
mknod -m 666 dev/tty c 5 0
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
for stream in stdin:0 stdout:1 stderr:2; do ln -s "/proc/self/fd/${stream#*:}" "dev/${stream%:*}"; done

cp "$seed/user-data" "$seed/authorized_keys" run/
mkdir old
pivot_root . old
umount --lazy /old
rmdir /old
exec </dev/null

name=ip-${address//./-}
hostname "$name"
rm -rf /etc/resolv.conf /etc/ssh/ssh_host_* /etc/ssh/sshd_config.d/* /etc/sudoers.d/* /etc/pip.conf /etc/uv
: >/etc/resolv.conf
printf '127.0.0.1 localhost\n%s %s\n' "$address" "$name" >/etc/hosts

# A password that nobody has, which unlike `!` leaves the account open to keys.
useradd --create-home --shell /bin/bash --password '*' "$user"
mkdir -m 700 "/home/$user/.ssh"
mv /run/authorized_keys "/home/$user/.ssh/"
chown -R "$user:" "/home/$user/.ssh"
printf '%s ALL=(ALL) NOPASSWD:ALL\n' "$user" >/etc/sudoers.d/90-cloud-init-users

sleep "$delay"
ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
cat >/etc/ssh/sshd_config <<SSHD
HostKey /etc/ssh/ssh_host_ed25519_key
PidFile /run/sshd.pid
UsePAM no
UseDNS no
PasswordAuthentication no
KbdInteractiveAuthentication no
Subsystem sftp internal-sftp
SSHD
/usr/sbin/sshd -D -E /var/log/sshd.log &

# cloud-init runs user data that starts with #!, packed or not, as root, and gives it hardly any environment.
folder=/var/lib/cloud/instance/scripts
mkdir -p "$folder"
[[ $(head -c 2 /run/user-data | od -An -tx1) != ' 1f 8b' ]] || { mv /run/user-data /run/packed && gzip -dc /run/packed >/run/user-data; }
if [[ $(head -c 2 /run/user-data) = '#!' ]]; then
  install -m 700 /run/user-data "$folder/part-001"
  env -i "AWS_ENDPOINT_URL=$endpoint" "$folder/part-001" >/var/log/cloud-init-output.log 2>&1 &
fi
rm -f /run/user-data /run/packed

# An init buries what becomes an orphan; bash does so while it waits.
while :; do sleep 3600 & wait $! || true; done

#!/bin/bash
# One boot of one machine, in namespaces of its own: its root, which FOLDER's disk keeps from boot to boot, then its init.
# The first boot makes of this computer's system what a fresh image is. FOLDER also keeps the logs.
set -eu
image=$1 folder=$2 address=$3 user=$4 delay=$5 endpoint=$6 init=$7

sleep "$delay"
disk=$folder/disk
new=
[[ -d $disk/root ]] || new=yes
mkdir -p "$disk/upper" "$disk/work" "$disk/root" "$disk/own" "$folder/log"
mount -t overlay -o "lowerdir=/,upperdir=$disk/upper,workdir=$disk/work" machine "$disk/root"
cd "$disk/root"

# Of this computer's files a machine sees the operating system alone.
for entry in * usr/local/* var/tmp var/log; do
  [[ -d $entry && ! -L $entry ]] || continue
  case $entry in
    bin | sbin | lib* | usr | etc | var) ;;
    dev | run | tmp) mount -t tmpfs -o mode=755 machine "$entry" ;;
    proc) mount -t proc proc proc ;;
    sys) mount -t sysfs -o ro sysfs sys ;;
    var/log) mount --bind "$folder/log" var/log ;;
    *) mkdir -p "$disk/own/$entry" && mount --bind "$disk/own/$entry" "$entry" ;;
  esac
done
chmod 1777 tmp var/tmp
# Settings of the kernel are this computer's too, and an init writes them.
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys

mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 devpts dev/pts
mount -t tmpfs -o mode=1777 machine dev/shm
for device in null:3 zero:5 full:7 random:8 urandom:9; do mknod -m 666 "dev/${device%:*}" c 1 "${device#*:}"; done
mknod -m 666 dev/tty c 5 0
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
for stream in stdin:0 stdout:1 stderr:2; do ln -s "/proc/self/fd/${stream#*:}" "dev/${stream%:*}"; done

name=ip-${address//./-}
hostname "$name"
if [[ $new ]]; then
  chmod 700 root
  mkdir -p usr/local/bin usr/local/sbin
  rm -rf etc/resolv.conf etc/ssh/ssh_host_* etc/ssh/sshd_config.d/* etc/sudoers.d/* etc/pip.conf etc/uv
  rm -rf etc/systemd/system/* var/lib/cloud
  cp -r "$image/." .
  : >etc/resolv.conf
  echo "$name" >etc/hostname
  printf '127.0.0.1 localhost\n%s %s\n' "$address" "$name" >etc/hosts
  mkdir etc/systemd/system/multi-user.target.wants
  ln -s ../sshd.service ../cloud-final.service etc/systemd/system/multi-user.target.wants/
  ln -s /lib/systemd/system/multi-user.target etc/systemd/system/default.target
  # No terminal to log in at, and no look into the kernel that all machines share.
  for unit in getty.target sys-kernel-debug.mount sys-kernel-tracing.mount; do ln -s /dev/null "etc/systemd/system/$unit"; done

  ssh-keygen -q -t ed25519 -N '' -f etc/ssh/ssh_host_ed25519_key
  mkdir -p var/lib/cloud/instance
  cp "$folder/user-data" var/lib/cloud/instance/
  echo "$endpoint" >etc/lab-endpoint
  # A password that nobody has, which unlike `!` leaves the account open to keys.
  chroot . useradd --create-home --shell /bin/bash --password '*' "$user"
  mkdir -m 700 "home/$user/.ssh"
  cp "$folder/authorized_keys" "home/$user/.ssh/"
  chroot . chown -R "$user:" "/home/$user/.ssh"
  printf '%s ALL=(ALL) NOPASSWD:ALL\n' "$user" >etc/sudoers.d/90-cloud-init-users
fi

mkdir old
pivot_root . old
umount --lazy /old
rmdir /old
exec </dev/null
case $init in
  systemd)
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    exec env -i container=lab "PATH=$PATH" /lib/systemd/systemd
    ;;
  plain) exec /usr/local/sbin/plain-init ;;
  broken) echo "kernel panic: no init found" ;;
esac

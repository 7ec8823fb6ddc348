#!/bin/bash
# Turns a fresh machine into a node of a Daft cluster: uv, Python, Ray and Daft, the user's setup commands (head only), Ray.
#   no argument  what cloud-init runs, once per instance, as root, with hardly any environment
#   resume       what it runs at every later boot: the rest of what a reboot cut off, and Ray where no systemd starts it
#   run          one life of Ray: what systemd (or `supervise`, where there is no systemd) starts again and again
#   watch        what ends the cluster when its time is over: on the head, from the first second of each boot
# Everything the user installs or runs belongs to the SSH user, as it would had they typed it: root only for what needs it.
set -euo pipefail
umask 022

settings="@DAFT_SETTINGS@"
root=${DAFT_ROOT:-}
opt=$root/opt/daft etc=$root/etc/daft log=$root/var/log/daft-bootstrap.log
port=${DAFT_RAY_PORT:-6379}
export PATH="${PATH:-/usr/bin}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# cloud-init is written in Python, so wherever it runs user data there is a python3; on Amazon Linux 2023 it is 3.9, for good
# (https://docs.aws.amazon.com/linux/al2023/ug/python.html).
python=$(command -v python3) || { echo "daft: no python3 on this image" >&2; exit 1; }
step=booting

node() { "$python" -IS "$opt/node.py" "$@"; }

fail() { # COMMAND CODE
  trap - EXIT
  node fail "$step" "${1:0:1000}" "$2" || true
  # The console (`aws ec2 get-console-output`) is all that is left to read when SSH is not.
  tail -n 15 "$log" >&3
  exit 1
}

user_runs() { # LABEL ARGV...
  local label=$1 code=0
  shift
  printf 'daft: %s\n' "${label//$'\n'/ }"
  "${become[@]}" "$@" </dev/null 3>&- || code=$?
  [[ $code = 0 ]] || fail "$label" "$code"
}

# One CreateTags call each, and EC2 throttles an account's calls: of a thousand workers nobody watches the steps in between
# (https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html).
# A thousand dependencies are longer than one argument may be, and a tag takes 256 characters.
progress() { [[ $role = worker ]] || node tag "$step" "${1:0:1000}"; }

write_files() {
  mkdir -p "$opt/bin" "$etc" "${log%/*}"
  [[ -e $log ]] || (umask 077 && : >"$log")
  (umask 077 && base64 -d <<<"$settings" >"$etc/settings.json")
  # A unit inherits nothing of this environment; the two are the AWS SDKs' own names, unset on AWS.
  env | grep -E '^AWS_(ENDPOINT_URL|EC2_METADATA_SERVICE_ENDPOINT)=' >"$etc/environment" || true
  [[ ${BASH_SOURCE[0]} -ef $opt/bootstrap.sh ]] || (umask 077 && cat "${BASH_SOURCE[0]}" >"$opt/bootstrap.sh")
  # Scripts of every boot run before user data: not in this boot, and whatever the init is
  # (https://docs.cloud-init.io/en/latest/reference/modules.html#scripts-per-boot).
  local per_boot=$root/var/lib/cloud/scripts/per-boot/daft
  mkdir -p "${per_boot%/*}"
  printf '#!/bin/sh\nexec /bin/bash %q resume\n' "$opt/bootstrap.sh" >"$per_boot"
  chmod 755 "$per_boot"
  cat >"$opt/node.py" <<'PYTHON'
"""What a node says to AWS, with the standard library alone. Python 3.8 and later."""
import datetime, gzip, hashlib, hmac, io, json, os, pathlib, platform, pwd, random, re, secrets, signal, socket, sys
import time, zipfile
from http import client
from urllib import error, parse, request

ROOT = os.environ.get("DAFT_ROOT", "")
ETC, OPT, LOG = (pathlib.Path(ROOT + path) for path in ("/etc/daft", "/opt/daft", "/var/log/daft-bootstrap.log"))
IMDS = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or "http://169.254.169.254"
PORT = int(os.environ.get("DAFT_RAY_PORT") or 6379)
PATIENCE = int(os.environ.get("DAFT_PATIENCE") or 1800)
PERIOD = float(os.environ.get("DAFT_PERIOD") or 60)
API = os.environ.get("DAFT_HEALTH") or "http://127.0.0.1:"
PROC = pathlib.Path(ROOT + "/proc")
RAW = (ETC / "settings.json").read_bytes()  # or gzipped: half of the user data is theirs, and long commands shrink well
SETTINGS = json.loads(gzip.decompress(RAW) if RAW[:2] == b"\x1f\x8b" else RAW)
NEAR = "localhost,127.0.0.1,169.254.169.254,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16"
if SETTINGS.get("proxy"):  # AWS is behind it too, and the first tag is set before the shell knows `environment`
    for name, value in (("http_proxy", SETTINGS["proxy"]), ("https_proxy", SETTINGS["proxy"]), ("no_proxy", NEAR)):
        os.environ.setdefault(name, value)
TROUBLE = (OSError, ValueError, KeyError, client.HTTPException)  # urllib.error.* are OSErrors
UV = "0.13.9"
# Wheel, its directory on files.pythonhosted.org, SHA-256: a wheel is one immutable file, and any index or mirror has it.
WHEELS = {
    "x86_64": (
        "manylinux_2_17_x86_64.manylinux2014_x86_64",
        "3d/aa/26d64642d808de4a652579ef950d7cd2d37f080a8babf9c67c6b75fc4c3f",
        "d7f459fe4fd247d830351c75686d3996ace3c6f3f728eb0e85a30b7ada0cef19",
    ),
    "aarch64": (
        "manylinux_2_17_aarch64.manylinux2014_aarch64.musllinux_1_1_aarch64",
        "57/15/94b6cd62ac3ff6550288328e8035288875197cbc183f51554b266a69877b",
        "5435c5ce14a56431208ca0996416d310f1598e8c2c8ba707688985a16bb82dbe",
    ),
}


def fetch(url, data=None, headers=None, method=None, timeout=10, direct=False):
    opener = request.build_opener(*[request.ProxyHandler({})] if direct else [])
    try:
        with opener.open(request.Request(url, data, headers or {}, method=method), timeout=timeout) as reply:
            return reply.read()
    except error.HTTPError as problem:  # AWS says why in the body
        problem.msg = "%s %s" % (problem.msg, problem.read(400).decode("utf-8", "replace"))
        raise


def retry(seconds, call, *args):
    deadline, pause = time.monotonic() + seconds, 1
    while True:
        try:
            return call(*args)
        except TROUBLE as problem:
            print("daft: retrying after:", problem, file=sys.stderr, flush=True)
            if time.monotonic() + pause > deadline:
                raise
        time.sleep(pause * random.uniform(0.5, 1.5))
        pause = min(pause * 2, 15)


def imds(path):
    ask = {"X-aws-ec2-metadata-token-ttl-seconds": "300"}
    token = fetch(IMDS + "/latest/api/token", None, ask, "PUT", 3, direct=True).decode()
    return fetch(IMDS + "/latest/meta-data/" + path, None, {"X-aws-ec2-metadata-token": token}, None, 3, direct=True).decode()


def aws(service, body, kind, target=None):
    """One signed call. Not `curl --aws-sigv4`: that of Ubuntu 22.04 (7.81) signs host and x-amz-date alone
    (https://github.com/curl/curl/issues/11738), and AWS wants every x-amz-* header in the signature
    (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html)."""
    profile = imds("iam/security-credentials/").split()[0]
    keys, region = json.loads(imds("iam/security-credentials/" + profile)), SETTINGS["region"]
    domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    url = os.environ.get("AWS_ENDPOINT_URL") or "https://%s.%s.%s" % (service, region, domain)
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    headers = {"content-type": kind, "host": parse.urlsplit(url).netloc, "x-amz-date": now}
    headers["x-amz-security-token"] = keys["Token"]
    if target:
        headers["x-amz-target"] = target
    names, digest = sorted(headers), lambda text: hashlib.sha256(text.encode()).hexdigest()
    canonical = ["POST", "/", ""] + [name + ":" + headers[name] for name in names] + ["", ";".join(names), digest(body)]
    scope = "/".join((now[:8], region, service, "aws4_request"))
    key = ("AWS4" + keys["SecretAccessKey"]).encode()
    for part in scope.split("/") + ["\n".join(("AWS4-HMAC-SHA256", now, scope, digest("\n".join(canonical))))]:
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    headers["authorization"] = "AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%s" % (
        keys["AccessKeyId"], scope, ";".join(names), key.hex())
    return fetch(url.rstrip("/") + "/", body.encode(), headers)


def ssm(action, **body):
    return json.loads(aws("ssm", json.dumps(body), "application/x-amz-json-1.1", "AmazonSSM." + action))


def query(service, version, action, patience, fields):
    body = parse.urlencode(dict(fields, Action=action, Version=version))
    return retry(patience, aws, service, body, "application/x-www-form-urlencoded")


def set_tags(tags, patience):
    fields = {"ResourceId.1": retry(60, imds, "instance-id")}
    for number, (name, value) in enumerate(tags.items(), 1):
        fields.update({"Tag.%d.Key" % number: name, "Tag.%d.Value" % number: value})
    query("ec2", "2016-11-15", "CreateTags", patience, fields)


def plain(text):
    """EC2 takes any character, other services that show tags do not
    (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html#tag-restrictions); 256 of them at most."""
    uncoloured = re.sub(r"\x1b\[[0-9;]*m", "", text)
    clean = "".join(c if c.isalnum() or " " <= c <= "~" else " " if c.isspace() else "?" for c in uncoloured)
    return " ".join(clean.split())[:256]


def tag(status, detail):
    """Best effort: a node that cannot tag itself may still serve."""
    tags = {"daft:status": status, "daft:detail": plain(detail)}
    key = pathlib.Path(ROOT + "/etc/ssh/ssh_host_ed25519_key.pub")
    if key.exists():
        tags["daft:ssh-host-key"] = " ".join(key.read_text().split()[:2])
    keep("status", status)
    print("daft: status %s: %s" % (status, tags["daft:detail"]), file=sys.stderr, flush=True)
    try:
        set_tags(tags, 300 if status in ("ready", "failed") else 10)
    except TROUBLE as problem:
        print("daft: cannot tag this instance:", problem, file=sys.stderr, flush=True)


def fail(step, command, code):
    last = (LOG.read_text("utf-8", "replace")[-2000:].strip().splitlines() or [""])[-1]
    short = command if len(command) <= 120 else command[:117] + "..."
    tag("failed", "%s: `%s` exited with %s%s" % (step, short, code, "" if last.startswith("daft:") else ": " + last))


def write_token(token):
    new = ETC / "ray-token.new"
    new.unlink() if new.exists() else None
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(token)
    if os.getuid() == 0:
        user = pwd.getpwnam(SETTINGS["ssh_user"])
        os.chown(new, user.pw_uid, user.pw_gid)
    new.replace(ETC / "ray-token")


def publish():
    path = ETC / "ray-token"
    if not path.exists():
        write_token(secrets.token_hex(32))
    value = json.dumps({"address": retry(60, imds, "local-ipv4"), "token": path.read_text()})
    retry(120, lambda: ssm("PutParameter", Name=SETTINGS["secret_name"], Value=value, Type="SecureString", Overwrite=True))


def read_parameter(name):
    return json.loads(ssm("GetParameter", Name=name, WithDecryption=True)["Parameter"]["Value"])


def recall(name):
    return (ETC / name).read_text() if (ETC / name).exists() else ""


def keep(name, text):
    new = ETC / (name + ".new")
    try:
        new.write_text(text)
        new.replace(ETC / name)
    except OSError:  # a full disk keeps no cluster alive
        pass


def knock(address):
    try:
        return socket.create_connection((address, PORT), 5).close()
    except OSError as problem:
        return "the head at %s does not answer on port %d: %s" % (address, PORT, problem)


def join():
    """Print the head's address once its port answers. Pauses grow: SSM gives an account 40 GetParameter calls a second
    (https://docs.aws.amazon.com/general/latest/gr/ssm.html). The port costs nothing, and is tried meanwhile."""
    deadline, pause, told = time.monotonic() + PATIENCE, 1, None
    while time.monotonic() < deadline:
        address = None
        try:
            found = read_parameter(SETTINGS["secret_name"])
            address, token = found["address"], found["token"]
        except (ValueError, KeyError, TypeError):
            why = "waiting for the head to write its address"
        except TROUBLE as problem:
            why = "cannot read the secret %s: %s" % (SETTINGS["secret_name"], problem)
        else:
            why = knock(address)
            if not why:
                write_token(token)
                return print(address)
        if why != told:
            tag("setup", why)
            told = why
        wake = time.monotonic() + pause * random.uniform(0.5, 1.5)
        while time.monotonic() < wake:
            time.sleep(min(1, pause))
            if address and not knock(address):
                break
        pause = min(pause * 1.3, 15)
    sys.exit("gave up after %d s: %s" % (PATIENCE, told))


def healthy(ray):
    """Neither address asks for the token. A head takes jobs when its agent answers too, some seconds after the rest."""
    paths = ["52365/api/local_raylet_healthz"] + ["8265/api/gcs_healthz"] * (SETTINGS["role"] == "head")
    urls = [API + path for path in paths]
    for _ in range(300):
        try:
            if all(b"success" in fetch(url, timeout=3, direct=True) for url in urls):
                return tag("ready", "Ray answers")
        except TROUBLE:
            pass
        time.sleep(1)
    print("Ray runs but does not answer on", *urls, file=sys.stderr, flush=True)
    os.kill(int(ray), signal.SIGTERM)


class Watch:
    """What ends a cluster that is forgotten. Nothing that fails may end the watch: in a minute it looks again."""

    def __init__(self):
        self.me = self.limits = self.told = self.denied = None
        self.idle = True

    def start(self):
        me = retry(60, imds, "instance-id")
        born = recall("born").split()
        if born[:1] != [me]:  # on the disk, for later boots; an image made of a head carries another's
            born = [me, "%d" % time.time()]
            keep("born", " ".join(born))
        self.born = float(born[1])
        # How long the init runs, which in a container is not how long the kernel does.
        began = int((PROC / "1/stat").read_text().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
        self.boot = time.time() - float((PROC / "uptime").read_text().split()[0]) + began
        self.since = max(self.born, self.boot, float(recall("idle-since") or 0))
        self.me = me

    def ask_for_lost_peers(self):
        """A laptop that is gone leaves its SSH connection, and the kernel would ask after it in two hours only. Whatever the
        limits are by now: a connection keeps to what was in force when it began."""
        for name, value in (("time", 120), ("intvl", 30), ("probes", 6)):
            (PROC / "sys/net/ipv4" / ("tcp_keepalive_" + name)).write_text(str(value))

    def read_limits(self):
        """Not in the settings: there they would make another head."""
        try:
            self.limits = read_parameter("/daft/%s/limits" % SETTINGS["cluster"])
        except error.HTTPError as problem:
            if "ParameterNotFound" not in problem.msg:
                raise
            self.limits = {}

    def look(self):
        """Do what is due, and return in how many seconds to look again."""
        if self.limits is None:
            return 10
        if self.me is None:  # not before AWS has taken a signature: it takes none of a clock that is wrong
            self.start()
        now = time.time()
        worked = self.last_work(now) if "idle_timeout" in self.limits else now
        if worked == now or not self.idle:  # the first look at an idle head begins its idleness
            self.since = now
        self.idle, self.since = worked != now, max(self.since, worked)
        keep("idle-since", "%d" % self.since)
        begun = {"max_lifetime": self.born}
        if self.idle:
            begun["idle_timeout"] = self.since
        ends = sorted((began + self.limits[name], name) for name, began in begun.items() if name in self.limits)
        if ends and ends[0][0] <= now:
            return self.end(now, "%s of %d min is over" % (ends[0][1], self.limits[ends[0][1]] // 60))
        if self.denied:
            set_tags({"daft:detail": ""}, 10)
            self.denied = None
        said = " ".join(time.strftime(name + " %Y-%m-%dT%H:%M:%SZ", time.gmtime(end)) for end, name in ends)
        if said != self.told:  # empty too: it says that there is a watch
            set_tags({"daft:ends": said}, 10)
            self.told = said
        return min([PERIOD] + [end - now for end, _ in ends])

    def last_work(self, now):
        """Now while the machine is at work or in use; else when the last job ended, 0 if there was none."""
        if self.bootstraps(now) or any(map(self.has_session, ("tcp", "tcp6"))):
            return now
        try:
            key = {"Authorization": "Bearer " + (ETC / "ray-token").read_text()}
            jobs = json.loads(fetch(API + "8265/api/jobs/", None, key, None, 10, direct=True))
            if any(job["status"] in ("PENDING", "RUNNING") for job in jobs):
                return now
            return min(now - 1, max([job.get("end_time") or 0 for job in jobs] + [0]) / 1000)
        except TROUBLE:
            return now if any(map(self.is_raylet, PROC.glob("[0-9]*/comm"))) else 0

    def bootstraps(self, now):
        """To be set up is work too, but not for ever: it may hang."""
        return recall("status") in ("booting", "installing", "setup") and now - self.boot < 2 * PATIENCE

    def has_session(self, name):
        path = PROC / "net" / name
        rows = [line.split() for line in path.read_text().splitlines()[1:]] if path.exists() else []
        return any(row[1].endswith(":0016") and row[3] == "01" for row in rows)  # port 22, ESTABLISHED

    def is_raylet(self, path):
        try:
            return path.read_text() == "raylet\n"
        except OSError:
            return False

    def end(self, now, why):
        """Workers first: without a head nobody would end them. A head that is not let do so for an hour goes alone."""
        none = {"AutoScalingGroupName": "daft-%s-workers" % SETTINGS["cluster"]}
        none.update(MinSize=0, MaxSize=0, DesiredCapacity=0)
        try:
            query("autoscaling", "2011-01-01", "UpdateAutoScalingGroup", min(30, PERIOD), none)
        except TROUBLE as problem:
            if "not found" not in str(problem):  # `down` has removed the group
                self.denied = self.denied or now
                if now - self.denied < 2 * PATIENCE:
                    return set_tags({"daft:detail": plain("%s, but its workers cannot be ended: %s" % (why, problem))}, 10)
                why += ", and its workers could not be ended: %s" % problem
        tag("ended", why)
        try:
            query("ec2", "2016-11-15", "TerminateInstances", min(30, PERIOD), {"InstanceId.1": self.me})
        except TROUBLE as problem:
            print("daft: this instance may not terminate itself:", problem, file=sys.stderr, flush=True)
            os.system("shutdown -h now")

    def publish_again(self):
        """Terraform sets the secret back where it takes a cluster over whose state was lost. Another head's is left alone."""
        if not (ETC / "ray-token").exists():
            return
        mine = {"address": imds("local-ipv4"), "token": (ETC / "ray-token").read_text()}
        try:
            found = dict(read_parameter(SETTINGS["secret_name"]))
        except (TypeError, ValueError):
            found = {}
        if found != mine and found.get("address") in (None, mine["address"]):
            publish()

    def attempt(self, step):
        try:
            return step()
        except Exception as problem:
            print("daft: the watch goes on after: %s: %s" % (type(problem).__name__, problem), file=sys.stderr, flush=True)


def watch():
    it = Watch()
    it.attempt(it.ask_for_lost_peers)
    while True:
        it.attempt(it.read_limits)
        pause = it.attempt(it.look)
        it.attempt(it.publish_again)
        time.sleep(max(0.1, min(PERIOD, pause or PERIOD)))


def read_page(url):
    with request.urlopen(url, timeout=10) as reply:
        return reply.url, reply.read().decode("utf-8", "replace")


def uv():
    target = OPT / "bin" / "uv"
    if target.exists() and UV in os.popen("'%s' --version" % target).read().split():
        return
    tags, folder, sha256 = WHEELS[platform.machine()]
    name = "uv-%s-py3-none-%s.whl" % (UV, tags)
    links, index = re.sub("^file://", "", SETTINGS.get("find_links") or ""), SETTINGS.get("package_index")
    if links and "://" not in links:
        wheel = (pathlib.Path(links) / name).read_bytes()
    else:
        url = "https://files.pythonhosted.org/packages/%s/%s" % (folder, name)
        if links or index:
            page, html = retry(60, read_page, links or index.rstrip("/") + "/uv/")
            hrefs = (href for href in re.findall(r"""href=["']([^"']+)""", html) if name in parse.unquote(href))
            url = parse.urljoin(page, next(hrefs, "") or sys.exit("no %s on %s" % (name, page))).replace("&amp;", "&")
        wheel = retry(120, fetch, url, None, None, None, 60)
    if hashlib.sha256(wheel).hexdigest() != sha256:
        sys.exit("%s is not the file it should be: its SHA-256 is %s" % (name, hashlib.sha256(wheel).hexdigest()))
    new = target.with_suffix(".new")
    new.write_bytes(zipfile.ZipFile(io.BytesIO(wheel)).read("uv-%s.data/scripts/uv" % UV))
    new.chmod(0o755)
    new.replace(target)


def requirements():
    """Daft first, with a floor: its bound on Ray is then kept. uv favours what it reads first, and would take the newest Ray
    and with it Daft 0.6, the last that names no bound (measured)."""
    ray, daft = SETTINGS.get("ray_version"), SETTINGS.get("daft_version")
    packages = ["daft[ray]" + ("==" + daft if daft else ">=0.7"), "ray[default]" + ("==" + ray if ray else ">=2.54")]
    return packages + SETTINGS["dependencies"]


def environment():
    """A directory of wheels alone means no index at all; to have both, name both."""
    index, links, proxy = (SETTINGS.get(key) or "" for key in ("package_index", "find_links", "proxy"))
    pairs = {"UV_DEFAULT_INDEX": index, "PIP_INDEX_URL": index, "UV_FIND_LINKS": links, "PIP_FIND_LINKS": links}
    if links and not index:
        pairs["PIP_NO_INDEX"] = "1"
    if proxy:
        near = NEAR + "," + retry(60, imds, "local-ipv4")
        for name, value in (("http_proxy", proxy), ("https_proxy", proxy), ("no_proxy", near)):
            pairs.update({name: value, name.upper(): value})
    return [name + "=" + value for name, value in pairs.items() if value]


def each(values):
    sys.stdout.buffer.write(b"".join(value.encode("utf-8", "surrogateescape") + b"\0" for value in values))


VERBS = {
    "get": lambda *keys: each(SETTINGS[key] for key in keys), "setup-commands": lambda: each(SETTINGS["setup_commands"]),
    "requirements": lambda: each(requirements()), "environment": lambda: each(environment()),
    "address": lambda: print(retry(60, imds, "local-ipv4")), "uv": uv, "tag": tag, "fail": fail,
    "publish": publish, "join": join, "healthy": healthy, "watch": watch,
}
VERBS[sys.argv[1]](*sys.argv[2:])
PYTHON
}

load_settings() {
  local pair
  mapfile -d '' -t words < <(node get role ssh_user python_version)
  role=${words[0]} user=${words[1]} python_version=${words[2]}
  become=() home=$(getent passwd "$user" | cut -d: -f6) || fail "find the account $user" 1
  if [[ $EUID = 0 ]]; then
    chown "$user:" "$log"
    # Not su or sudo: they fork, and the process that gets systemd's signal would not be Ray.
    become=(setpriv "--reuid=$(id -u "$user")" "--regid=$(id -g "$user")" --init-groups --)
  fi
  while IFS= read -r -d '' pair; do export "${pair?}"; done < <(node environment)
  export HOME=$home USER=$user LOGNAME=$user LANG=C.UTF-8 PATH="$opt/venv/bin:$opt/bin:$PATH" VIRTUAL_ENV=$opt/venv
  export UV_CACHE_DIR=$opt/cache UV_PYTHON_INSTALL_DIR=$opt/python UV_NO_PROGRESS=1 UV_SYSTEM_CERTS=1
  cd "$home" 2>/dev/null || cd /
}

install_packages() {
  local requirements offline=()
  step=installing
  mapfile -d '' -t requirements < <(node requirements)
  node tag installing "uv, Python $python_version, $((${#requirements[@]})) packages"
  node uv || fail "install uv" $?
  mkdir -p "$opt/venv" "$opt/python" "$opt/cache"
  [[ $EUID != 0 ]] || chown "$user:" "$opt/venv" "$opt/python" "$opt/cache"
  progress "Python $python_version"
  # A Python of this version on the image is used as it is; otherwise uv fetches one from GitHub.
  user_runs "uv venv --python $python_version" uv venv --quiet --allow-existing "--python=$python_version" "$opt/venv"
  progress "${requirements[*]}"
  [[ ! -v PIP_NO_INDEX ]] || offline=(--no-index)
  user_runs "uv pip install ${requirements[*]}" uv pip install "${offline[@]}" -- "${requirements[@]}"
}

run_setup_commands() {
  local commands number=0 command
  step=setup
  mapfile -d '' -t commands < <(node setup-commands)
  ((${#commands[@]})) || return 0
  # `pip` and `python -m pip` for the commands that call it, from the wheel inside Python: no download. Debian's has none.
  "${become[@]}" python -m ensurepip --default-pip >/dev/null 2>&1 || true
  # Who knows whether half a command may run again: the head says so, and the next `daft up` makes a new one.
  [[ ! -e $etc/setup-command ]] || fail "$(<"$etc/setup-command")" "no status: the machine restarted before it had succeeded"
  for command in "${commands[@]}"; do
    progress "command $((++number)) of ${#commands[@]}: $command"
    echo "$command" >"$etc/setup-command"
    user_runs "$command" bash -c "$command"
  done
  rm "$etc/setup-command"
}

# sd_booted(3): this directory exists if and only if systemd is the init.
has_systemd() { [[ -d $root/run/systemd/system ]]; }

start_unit() { # NAME VERB, and the unit's file on standard input
  mkdir -p "$root/etc/systemd/system"
  cat >"$root/etc/systemd/system/$1"
  systemctl daemon-reload
  systemctl enable "$1"
  systemctl "$2" --no-block "$1"
}

start_watch() {
  local role
  IFS= read -r -d '' role < <(node get role)
  [[ $role = head ]] || return 0
  if ! has_systemd; then
    setsid bash "$opt/bootstrap.sh" watch </dev/null >/dev/null 2>&1 3>&- &
    return
  fi
  # restart: on an image that was made of a head it runs already, by that head's settings.
  start_unit daft-watch.service restart <<UNIT
[Unit]
Description=Ends a Daft cluster that is forgotten
StartLimitIntervalSec=0

[Service]
EnvironmentFile=-$etc/environment
ExecStart=/bin/bash $opt/bootstrap.sh watch
Restart=always
RestartSec=5

[Install]
WantedBy=multi-user.target
UNIT
}

watch() {
  exec 9>>"$etc/watch.pid"
  flock -n 9 || exit 0
  echo $$ >"$etc/watch.pid"
  exec "$python" -IS "$opt/node.py" watch >>"$log" 2>&1
}

start_ray() {
  if ! has_systemd; then
    setsid bash "$opt/bootstrap.sh" supervise </dev/null >/dev/null 2>&1 3>&- &
    return
  fi
  # No After=cloud-final.service: it is what runs this script, so starting the unit would wait for itself.
  # OOMPolicy: the default stops the whole node when the kernel kills one greedy task (systemd.service(5)).
  # KillMode, TimeoutStopSec: `ray start --block` drains for up to 30 s when it alone gets SIGTERM.
  start_unit daft-ray.service start <<UNIT
[Unit]
Description=Ray node of a Daft cluster
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
EnvironmentFile=-$etc/environment
ExecStart=/bin/bash $opt/bootstrap.sh run
Restart=always
RestartSec=5
KillMode=mixed
TimeoutStopSec=45
LimitNOFILE=65536:524288
TasksMax=infinity
OOMPolicy=continue

[Install]
WantedBy=multi-user.target
UNIT
}

run_ray() {
  local address join code=0 ray
  trap 'kill -TERM $(jobs -p) 2>/dev/null; wait; exit 0' TERM INT
  ulimit -n 65536 2>/dev/null || true
  step=setup
  progress "starting Ray"
  step="ray start"
  address=$(node address)
  if [[ $role = head ]]; then
    node publish || fail "write the secret" $?
    join=(--head "--port=$port" --dashboard-host=127.0.0.1)
  else
    # In the background, because bash runs no trap while it waits for a command in the foreground.
    "$python" -IS "$opt/node.py" join >"$etc/head-address" &
    wait $! || fail "join the head" $?
    join=("--address=$(<"$etc/head-address"):$port")
  fi
  export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$etc/ray-token
  # Told to send no usage statistics, Ray 2.59 still tells usage-stats.ray.io that it sends none. Nobody listens on discard.
  # Jobs inherit the second: a user's `--env DAFT_ANALYTICS_ENABLED=1` goes before it.
  export RAY_USAGE_STATS_REPORT_URL=http://127.0.0.1:9/ DAFT_ANALYTICS_ENABLED=0
  join+=(--block --disable-usage-stats --log-color=false "--node-ip-address=$address")
  "${become[@]}" ray start "${join[@]}" </dev/null 3>&- &
  ray=$!
  "$python" -IS "$opt/node.py" healthy "$ray" &
  wait "$ray" 2>/dev/null || code=$? # without bash's own "Killed", which would be the log's last line
  kill $! 2>/dev/null || true
  fail "ray start" "$code" # Ray on a node never ends well: the cluster is stopped by ending the machine
}

supervise() {
  exec 9>>"$etc/supervisor.pid"
  flock -n 9 || exit 0
  echo $$ >"$etc/supervisor.pid"
  trap 'kill -TERM $(jobs -p) 2>/dev/null; wait; exit 0' TERM INT
  while :; do
    bash "$opt/bootstrap.sh" run 9>&- &
    wait $! || true
    # A Ray that crashed leaves processes behind, and the next one takes them for a running cluster. systemd would kill them.
    grep -lzxF "RAY_AUTH_TOKEN_PATH=$etc/ray-token" /proc/[0-9]*/environ 2>/dev/null | cut -d/ -f3 | xargs -r kill -KILL || true
    sleep "${DAFT_PAUSE:-5}" 9>&- &
    wait $!
  done
}

exec 3>&2
case ${1:-boot} in
  supervise) supervise ;;
  watch) watch ;;
  boot) write_files ;;
esac
exec >>"$log" 2>&1
trap 'code=$?; [[ $code = 0 ]] || fail "$BASH_COMMAND" "$code"' EXIT
[[ ${1:-} = run ]] || start_watch
[[ ${1:-} = run || -e $etc/complete ]] || node tag booting "instance is up"
load_settings
if [[ ${1:-} = run ]]; then run_ray; fi
if [[ ! -e $etc/complete ]]; then
  install_packages
  run_setup_commands
  : >"$etc/complete"
fi
start_ray

#!/bin/sh
# Tries the job of cron.example with a real cron, against a simulated E-HPC, and leaves the machine's crontabs alone.
# Install: nothing; needs root, cron (Debian's) and unshare. Use, in the checkout:
#     deploy/try-cron.sh [PROGRAM [FOLDER]]      without them .venv/bin/ehpc-image-sync, and a new folder for what it leaves
# It works when: it ends with 0 within two minutes and shows the summary that cron's job has written, "run 1: ok".
#
# cron runs in a mount and process namespace of its own, where /etc/cron.d holds one file and all other crontabs are out of
# sight; a cron that runs on this machine notices nothing. Of the job only user, folders and minutes are changed: it runs as
# root, below FOLDER and every minute. Mail is not sent but kept in FOLDER/mail. All processes end with the namespace.
set -eu

fail() { echo "try-cron: $1" >&2; exit 1; }

if [ "${1:-}" != --inside ]; then
    checkout=$(cd "$(dirname "$0")/.." && pwd)
    program=$(realpath "${1:-$checkout/.venv/bin/ehpc-image-sync}")
    folder=$(realpath "${2:-$(mktemp -d)}")
    case $folder in *[!A-Za-z0-9/._-]*) fail "choose a folder of plain letters, not $folder" ;; esac
    [ -z "$(ls -A "$folder" 2>/dev/null)" ] || fail "$folder is not empty: what an earlier trial left would count as this one's"
    [ "$(id -u)" = 0 ] || fail "needs root, to mount in a namespace of its own"
    for needed in unshare cron "$program"; do
        command -v "$needed" >/dev/null || fail "$needed is not installed"
    done
    exec unshare --mount --pid --fork --kill-child --mount-proc -- "$0" --inside "$program" "$folder" "$checkout/cron.example"
fi
program=$2 folder=$3 example=$4

# The folders that the crontab expects of a machine, below $folder.
mkdir -p "$folder/etc/ehpc-image-sync" "$folder/var/lib/ehpc-image-sync" "$folder/var/log/ehpc-image-sync" \
    "$folder/opt/ehpc-image-sync/bin"
ln -s "$program" "$folder/opt/ehpc-image-sync/bin/ehpc-image-sync"

# The endpoint, and the four variables that its greeting tells people to export.
"$program" simulate --port 0 --region cn-hangzhou --types 18 >"$folder/simulator.log" 2>&1 &
simulator=$!
tries=0
until grep -q 'export EHPC_SYNC_ENDPOINT' "$folder/simulator.log"; do
    tries=$((tries + 1))
    { [ $tries -lt 300 ] && kill -0 $simulator 2>/dev/null; } || fail "the simulator does not start: $(cat "$folder/simulator.log")"
    sleep 0.1
done
(umask 077; sed -n 's/^  export /export /p' "$folder/simulator.log" >"$folder/etc/ehpc-image-sync/environment")

# The job: the only line that begins with five fields of time.
minutes='[0-9,*/-]+[[:space:]]+'
sed -nE "/^($minutes){5}/p" "$example" >"$folder/job"
[ "$(wc -l <"$folder/job")" = 1 ] || fail "$example must have one active job"
sed -E "s,^($minutes){5}[a-z]+,* * * * *  root,; s,/(etc|var|opt)/,$folder/\1/,g" "$folder/job" >"$folder/crontab"

# From here on only this namespace sees what is mounted. /run has the lock of a cron that may run already.
mount -t tmpfs tmpfs /run
mkdir -p /var/spool/cron/crontabs /etc/cron.d
mount -t tmpfs tmpfs /var/spool/cron/crontabs
mount -t tmpfs -o mode=755 tmpfs /etc/cron.d
if [ -e /etc/crontab ]; then
    : >"$folder/empty"
    mount --bind "$folder/empty" /etc/crontab
fi
if [ -e /usr/sbin/sendmail ]; then
    printf '#!/bin/sh\ncat >>%s/mail\n' "$folder" >"$folder/sendmail"
    chmod 755 "$folder/sendmail"
    mount --bind "$folder/sendmail" /usr/sbin/sendmail
fi
{ grep -E '^(SHELL|MAILTO)=' "$example"; cat "$folder/crontab"; } >/etc/cron.d/ehpc-image-sync
chmod 644 /etc/cron.d/ehpc-image-sync

echo "try-cron: cron starts the job at the next full minute:"
sed 's/^/    /' "$folder/crontab"
cron -f -L 15 >"$folder/cron.log" 2>&1 &

# A minute until cron starts the job, and ten seconds for the run.
log=$folder/var/log/ehpc-image-sync/run.log
tries=0
until grep -q '^run ' "$log" 2>/dev/null; do
    tries=$((tries + 1))
    [ $tries -lt 700 ] || fail "no run within 70 s; $log: $(cat "$log" 2>&1); mail: $(cat "$folder/mail" 2>&1)"
    sleep 0.1
done
cat "$log"
[ ! -e "$folder/mail" ] || fail "the job was not silent; cron wanted to mail: $(cat "$folder/mail")"
grep -q '^run [0-9]*: ok' "$log" || fail "the run did not end well"
echo "try-cron: what it recorded is in $folder/var/lib/ehpc-image-sync/ehpc-images.db"

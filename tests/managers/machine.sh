# A machine in namespaces of its own: what is written to /etc, /run and the like goes with it, and so does every process.
# sh machine.sh DIRECTORY [CLOSED KEPT...]; it lasts until standard input is closed. Others may enter CLOSED then, and find
# there what is KEPT.
mount --make-rprivate /
cp -a /etc "$1/etc"
mount --bind "$1/etc" /etc
for directory in /run /srv /var/lib /var/log /usr/lib/sysusers.d /usr/lib/tmpfiles.d; do
    mount -t tmpfs -o mode=0755 tmpfs $directory
done
rm -rf /etc/sv /etc/service /etc/nginx/sites-enabled /etc/nginx/conf.d
mkdir -p /srv/shop /etc/sv /etc/service /etc/nginx/conf.d /var/lib/nginx /var/log/nginx /var/log/supervisor \
    /etc/supervisor/conf.d /etc/circus/conf.d
ip link set lo up
if [ "$2" ]; then
    own=$1 closed=$2
    shift 2
    for kept; do
        mkdir -p "$own/kept$kept"
        mount --bind "$kept" "$own/kept$kept"
    done
    mount -t tmpfs -o mode=0755 tmpfs "$closed"
    for kept; do
        mkdir -p "$kept"
        mount --bind "$own/kept$kept" "$kept"
    done
fi
echo ready
exec cat

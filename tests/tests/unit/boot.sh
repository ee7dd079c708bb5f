# Boots systemd in namespaces of its own, on this machine's files with the unit and its configuration put in their places.
# What is changed is in memory, and gone with it. Arguments: a directory, the program, the unit, its user, the
# configuration.
set -e
mount -t tmpfs none "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
cd "$1/root"

# Nothing of this machine's own is started.
rm -rf etc/systemd/system lib/systemd/system/*.wants lib/systemd/system-generators/* etc/fstab
rm -rf etc/meshlb var/lib/meshlb
mkdir -p etc/systemd/system/meshlb.service.d etc/meshlb
cp "$3" etc/systemd/system/meshlb.service
cp "$5" etc/meshlb/meshlb.toml
mkdir -p etc/sysusers.d
cp "$4" etc/sysusers.d/meshlb.conf
chroot . systemd-sysusers meshlb.conf
chroot . chgrp meshlb /etc/meshlb/meshlb.toml
chmod 0640 etc/meshlb/meshlb.toml
printf '[Unit]\nDefaultDependencies=no\nAllowIsolate=yes\nWants=meshlb.service\n' > etc/systemd/system/default.target
# There is no journal.
printf '[Service]\nStandardOutput=append:/var/log/meshlb.log\nStandardError=append:/var/log/meshlb.log\n' \
    > etc/systemd/system/meshlb.service.d/log.conf
rm -f usr/bin/meshlb
touch usr/bin/meshlb
mount --bind "$2" usr/bin/meshlb

mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount --rbind /dev dev
# As systemd's rules for devices have it (50-udev-default.rules); there is nobody here to go by them.
mount -t tmpfs none dev/net
mknod -m 0666 dev/net/tun c 10 200
for directory in run tmp var/log; do mount -t tmpfs tmpfs $directory; done
mkdir old
pivot_root . old
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin TERM=dumb /lib/systemd/systemd --system --log-target=null

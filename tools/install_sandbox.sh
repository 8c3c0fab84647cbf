#!/bin/sh
# bubblewrap for the judge's sandbox: through apt where that is possible, else a clear message.
[ "$(uname)" = Linux ] || exit 0

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }
works() { bwrap --unshare-user --unshare-pid --unshare-net --ro-bind / / true 2>/dev/null; }

if ! command -v bwrap >/dev/null && command -v apt-get >/dev/null && as_root true 2>/dev/null; then
    as_root apt-get update -q >/dev/null && as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q bubblewrap >/dev/null
fi
# Ubuntu 24.04 keeps user namespaces from programs it does not know. A machine of a test service may be told otherwise,
# somebody's own is left alone.
if [ -n "$CI" ] && ! works; then
    as_root sysctl -q -w kernel.apparmor_restrict_unprivileged_userns=0 2>/dev/null
fi
if command -v bwrap >/dev/null; then exit 0; fi
echo "The judge runs learners' code in a bubblewrap sandbox. Install it and run the same command again:"
echo "    Debian, Ubuntu   sudo apt-get install bubblewrap"
echo "    Fedora           sudo dnf install bubblewrap"
echo "    Arch             sudo pacman -S bubblewrap"
exit 1

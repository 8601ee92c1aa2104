#!/usr/bin/env bash
# Installs watchover as a systemd service, or brings an installation up to date. Safe to run again: a config that
# stands there is never touched, and the service is only restarted if the binary or the unit changed.
# usage: deploy/install.sh [BINARY]        default: target/release/watchover
set -euo pipefail
cd "$(dirname "$0")/.."
binary=${1:-target/release/watchover}

die() { echo "install: $*" >&2; exit 1; }
[[ $EUID -eq 0 ]] || die "run it as root: it writes to /usr/local/bin and /etc"
[[ -x $binary ]] || die "$binary is not there; build it with: make release"
command -v systemctl >/dev/null || die "needs systemd"

changed=false
# place SOURCE TARGET MODE: copies beside the target and renames, so that nobody ever sees half a file.
place() {
  if [[ -e $2 ]] && cmp -s "$1" "$2"; then return; fi
  install -D -m "$3" "$1" "$2.new"
  mv -f "$2.new" "$2"
  echo "install: wrote $2"
  changed=true
}

# Before anything is replaced: else what runs would be the old one, and the next run would find nothing to do.
if [[ -e /etc/watchover/config.toml ]]; then
  "$binary" --config /etc/watchover/config.toml check --offline || die "the new binary refuses the config (above); nothing was changed"
fi
place systemd/watchover.sysusers.conf /usr/lib/sysusers.d/watchover.conf 0644
systemd-sysusers /usr/lib/sysusers.d/watchover.conf
place "$binary" /usr/local/bin/watchover 0755
place systemd/watchover.service /etc/systemd/system/watchover.service 0644
install -d -m 0750 -o watchover -g watchover /etc/watchover
if [[ ! -e /etc/watchover/config.toml ]]; then
  install -m 0640 -o root -g watchover config.toml /etc/watchover/config.toml
  echo "install: wrote the reference to /etc/watchover/config.toml; make it yours, then run this again"
fi
systemctl daemon-reload

# A daemon that cannot read its config would restart for ever: it is started only once the file is sound and the operator's own.
/usr/local/bin/watchover --config /etc/watchover/config.toml check --offline || die "the config has problems (above); nothing was started"
if cmp -s config.toml /etc/watchover/config.toml; then
  die "/etc/watchover/config.toml is still the reference; nothing was started"
fi
systemctl enable --quiet watchover.service
if $changed || ! systemctl is-active --quiet watchover.service; then
  systemctl restart watchover.service
else
  systemctl reload watchover.service
fi
systemctl --no-pager --lines=0 status watchover.service

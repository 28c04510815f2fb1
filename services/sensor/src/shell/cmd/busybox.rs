//! `busybox`, which is all commands of a device.

use super::{
    super::{
        Family,
        run::{Io, Shell},
    },
    run_program,
};

const APPLETS: &str = "[, [[, arp, ash, awk, base64, basename, cat, chgrp, chmod, chown, chroot, clear, cmp, cp,
\tcrontab, cut, date, dd, df, diff, dirname, dmesg, du, echo, egrep, env, expr,
\tfalse, fgrep, find, free, ftpget, ftpput, getty, grep, gunzip, gzip, halt,
\thead, hostname, id, ifconfig, init, insmod, ip, kill, killall, klogd, less,
\tln, login, ls, lsmod, md5sum, mkdir, mknod, mkswap, mktemp, modprobe, more,
\tmount, mv, nc, netstat, nice, nohup, nproc, passwd, pgrep, pidof, ping, pkill,
\tpoweroff, printenv, printf, ps, pwd, readlink, realpath, reboot, rm, rmdir,
\trmmod, route, sed, seq, sh, sha1sum, sha256sum, sleep, sort, stat, stty, su,
\tswapoff, swapon, sync, sysctl, syslogd, tail, tar, tee, telnet, telnetd, test,
\ttftp, time, timeout, top, touch, tr, true, tty, udhcpc, umount, uname, uniq,
\tuptime, vi, watch, wc, wget, which, who, whoami, xargs, yes, zcat
";

/// The first line of what it says of itself.
fn banner(shell: &Shell) -> &'static str {
    match shell.machine().facts().family {
        Family::BusyBox => "BusyBox v1.33.0 (2021-03-09 14:10:11 UTC) multi-call binary.",
        _ => "BusyBox v1.35.0 (Debian 1:1.35.0-4+b3) multi-call binary.",
    }
}

pub(super) async fn call(shell: &mut Shell, argv: &[String], io: &Io) -> Option<i32> {
    let rest = argv.get(1..).unwrap_or_default();
    let Some(applet) = rest.first() else {
        let text = format!(
            "{}\nBusyBox is copyrighted by many authors between 1998-2015.\nLicensed under GPLv2. See source distribution for detailed\ncopyright notices.\n\nUsage: busybox [function [arguments]...]\n   or: busybox --list[-full]\n   or: busybox --show SCRIPT\n   or: busybox --install [-s] [DIR]\n   or: function [arguments]...\n\nCurrently defined functions:\n\t{APPLETS}",
            banner(shell)
        );
        shell.say(io, &text);
        return Some(0);
    };
    if applet == "--list" {
        let text: String = APPLETS
            .split([',', '\n', '\t', ' '])
            .filter(|name| !name.is_empty())
            .map(|name| format!("{name}\n"))
            .collect();
        shell.say(io, &text);
        return Some(0);
    }
    let known = APPLETS.split([',', '\n', '\t', ' ']).any(|name| name == applet);
    if !known || applet.is_empty() {
        // What bots ask for, to know where they are.
        shell.complain(io, &format!("{applet}: applet not found\n"));
        return Some(127);
    }
    Some(run_program(shell, applet, rest, io).await.unwrap_or(0))
}

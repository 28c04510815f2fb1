//! `ls`: what is in a folder, and how it is shown.

use chrono::{DateTime, Utc};

use super::{
    super::{
        Family,
        run::{Io, Shell},
        vfs::{Kind, Meta},
    },
    Args, is_terminal,
};

fn time_text(mtime: i64) -> String {
    let time = DateTime::<Utc>::from_timestamp(mtime, 0).unwrap_or_default();
    let age = Utc::now() - time;
    // Half a year ago the year takes the place of the time.
    if age.num_days() > 182 || age.num_seconds() < -3600 {
        time.format("%b %e  %Y").to_string()
    } else {
        time.format("%b %e %H:%M").to_string()
    }
}

pub(super) fn human(size: u64) -> String {
    let mut value = size as f64;
    for unit in ["", "K", "M", "G"] {
        if value < 1024.0 {
            return match unit {
                "" => format!("{size}"),
                _ if value < 9.95 => format!("{:.1}{unit}", (value * 10.0).ceil() / 10.0),
                _ => format!("{:.0}{unit}", value.ceil()),
            };
        }
        value /= 1024.0;
    }
    format!("{value:.1}T")
}

/// A line of `ls -l`, also of sftp and ftp.
fn long_line(
    shell: &Shell,
    name: &str,
    meta: &Meta,
    links: u64,
    widths: (usize, usize, usize),
    human_size: bool,
) -> String {
    let owner = shell.files.user_name(meta.uid);
    let group = shell.files.group_name(meta.gid);
    let size = match meta.kind {
        Kind::Device(major, minor) => format!("{major}, {minor:>3}"),
        _ if human_size => human(meta.size),
        _ => meta.size.to_string(),
    };
    format!(
        "{} {links:>w0$} {owner:<w1$} {group:<w1$} {size:>w2$} {} {name}",
        meta.mode_text(),
        time_text(meta.mtime),
        w0 = widths.0,
        w1 = widths.1,
        w2 = widths.2,
    )
}

pub(super) fn links_of(shell: &Shell, path: &str, meta: &Meta) -> u64 {
    if !meta.is_folder() {
        return 1;
    }
    let below = shell.files.list("/", path).unwrap_or_default();
    2 + u64::try_from(below.iter().filter(|(_, meta)| meta.is_folder()).count()).unwrap_or(0)
}

pub(super) fn ls(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let (args, _) = Args::new(argv, "I");
    if args.long("version") {
        shell.say(io, "ls (GNU coreutils) 9.1\n");
        return 0;
    }
    let colour = is_terminal(io) && shell.terminal.tty && args.long("color");
    let long = args.has('l') || args.has('n') || args.has('o') || args.has('g');
    let mut status = 0;
    let operands = if args.rest.is_empty() { vec!["."] } else { args.rest.clone() };
    let (mut single, mut folders) = (Vec::new(), Vec::new());
    for operand in operands.iter().take(256) {
        match shell.files.stat(&shell.cwd, operand, !args.has('d') && !long) {
            Ok((path, meta)) if meta.is_folder() && !args.has('d') => folders.push(((*operand).to_owned(), path)),
            Ok((path, meta)) => single.push(((*operand).to_owned(), path, meta)),
            Err(errno) => {
                status = 2;
                let text = match shell.machine().facts().family {
                    Family::BusyBox | Family::Bsd => format!("ls: {operand}: {}\n", errno.text()),
                    _ => format!("ls: cannot access '{operand}': {}\n", errno.text()),
                };
                shell.complain(io, &text);
            }
        }
    }
    if !single.is_empty() {
        show(shell, &single, &args, long, colour, io);
    }
    let titled = args.has('R') || folders.len() > 1 || !single.is_empty();
    let mut first = single.is_empty();
    folders.reverse();
    let mut seen = 0;
    while let Some((title, path)) = folders.pop() {
        seen += 1;
        if seen > 300 {
            break;
        }
        let list = match shell.files.list("/", &path) {
            Ok(list) => list,
            Err(errno) => {
                status = 2;
                let text = format!("ls: cannot open directory '{title}': {}\n", errno.text());
                shell.complain(io, &text);
                continue;
            }
        };
        let mut entries: Vec<(String, String, Meta)> = Vec::new();
        if args.has('a') {
            for special in [".", ".."] {
                if let Ok((real, meta)) = shell.files.stat(&path, special, true) {
                    entries.push((special.to_owned(), real, meta));
                }
            }
        }
        for (name, meta) in list {
            if name.starts_with('.') && !args.has('a') && !args.has('A') {
                continue;
            }
            let real = if path == "/" { format!("/{name}") } else { format!("{path}/{name}") };
            entries.push((name, real, meta));
        }
        if titled {
            let text = format!("{}{title}:\n", if first { "" } else { "\n" });
            shell.say(io, &text);
        }
        first = false;
        if long {
            let blocks: u64 = entries.iter().map(|(_, _, meta)| meta.size.div_ceil(4096) * 4).sum();
            let text =
                if args.has('h') { format!("total {}\n", human(blocks * 1024)) } else { format!("total {blocks}\n") };
            shell.say(io, &text);
        }
        if args.has('R') {
            let mut below: Vec<(String, String)> = entries
                .iter()
                .filter(|(name, _, meta)| meta.is_folder() && name != "." && name != "..")
                .map(|(name, real, _)| (format!("{}/{name}", title.trim_end_matches('/')), real.clone()))
                .collect();
            below.reverse();
            folders.append(&mut below);
        }
        show(shell, &entries, &args, long, colour, io);
    }
    status
}

fn show(shell: &mut Shell, entries: &[(String, String, Meta)], args: &Args<'_>, long: bool, colour: bool, io: &Io) {
    let mut entries: Vec<&(String, String, Meta)> = entries.iter().collect();
    if args.has('t') {
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.2.mtime));
    } else if args.has('S') {
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.2.size));
    } else {
        // As most locales sort: dots do not count.
        entries.sort_by_key(|entry| entry.0.trim_start_matches('.').to_ascii_lowercase());
        if matches!(shell.machine().facts().family, Family::BusyBox | Family::Bsd) {
            entries.sort_by(|a, b| a.0.cmp(&b.0));
        }
    }
    if args.has('r') {
        entries.reverse();
    }
    let painted = |name: &str, meta: &Meta| {
        let code = match meta.kind {
            _ if !colour => "",
            Kind::Folder if meta.mode & 0o1002 == 0o1002 => "30;42",
            Kind::Folder => "01;34",
            Kind::Link(_) => "01;36",
            Kind::Device(..) => "40;33;01",
            Kind::File if meta.mode & 0o4000 != 0 => "37;41",
            Kind::File if meta.mode & 0o111 != 0 => "01;32",
            Kind::File => "",
        };
        let mark = match meta.kind {
            Kind::Folder if args.has('F') || args.has('p') => "/",
            Kind::File if args.has('F') && meta.mode & 0o111 != 0 => "*",
            Kind::Link(_) if args.has('F') && !long => "@",
            _ => "",
        };
        if code.is_empty() { format!("{name}{mark}") } else { format!("\x1b[0m\x1b[{code}m{name}\x1b[0m{mark}") }
    };
    let mut text = String::new();
    if long {
        let lines: Vec<(String, u64, &Meta)> = entries
            .iter()
            .map(|(name, path, meta)| {
                let mut shown = painted(name, meta);
                if let Kind::Link(target) = &meta.kind {
                    shown.push_str(&format!(" -> {target}"));
                }
                (shown, links_of(shell, path, meta), meta)
            })
            .collect();
        let width = |of: &dyn Fn(&(String, u64, &Meta)) -> usize| lines.iter().map(of).max().unwrap_or(1);
        let links = width(&|line| line.1.to_string().len());
        let names =
            width(&|line| shell.files.user_name(line.2.uid).len().max(shell.files.group_name(line.2.gid).len()));
        let sizes = width(&|line| match line.2.kind {
            Kind::Device(major, _) => major.to_string().len() + 5,
            _ if args.has('h') => human(line.2.size).len(),
            _ => line.2.size.to_string().len(),
        });
        for (shown, count, meta) in &lines {
            text.push_str(&long_line(shell, shown, meta, *count, (links, names, sizes), args.has('h')));
            text.push('\n');
        }
    } else if is_terminal(io) && shell.terminal.tty && !args.has('1') {
        let names: Vec<(usize, String)> =
            entries.iter().map(|(name, _, meta)| (name.chars().count(), painted(name, meta))).collect();
        text = columns(&names, usize::from(shell.terminal.size.0));
    } else {
        for (name, _, meta) in &entries {
            text.push_str(&painted(name, meta));
            text.push('\n');
        }
    }
    shell.say(io, &text);
}

/// Names in columns as wide as a terminal.
fn columns(names: &[(usize, String)], width: usize) -> String {
    let count = names.len();
    if count == 0 {
        return String::new();
    }
    for rows in 1..=count {
        let widths: Vec<usize> =
            names.chunks(rows).map(|column| column.iter().map(|(length, _)| *length).max().unwrap_or(0) + 2).collect();
        if rows < count && widths.iter().sum::<usize>() > width + 2 {
            continue;
        }
        let mut text = String::new();
        for row in 0..rows {
            let mut line = String::new();
            for (column, wide) in widths.iter().enumerate() {
                let Some((length, name)) = names.get(column * rows + row) else { continue };
                line.push_str(name);
                if names.get((column + 1) * rows + row).is_some() {
                    line.push_str(&" ".repeat(wide.saturating_sub(*length)));
                }
            }
            text.push_str(&line);
            text.push('\n');
        }
        return text;
    }
    String::new()
}

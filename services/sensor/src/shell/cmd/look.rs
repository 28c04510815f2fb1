//! Commands that look at files: `stat`, `find`, `du` and their like.

use chrono::{DateTime, Utc};

use super::{
    super::{
        expand::{fits, to_bytes},
        run::{Io, Shell},
        vfs::{Kind, Meta, name, parent},
    },
    Args,
    files::{join, usage},
    ls::{human, links_of},
};

/// Most entries that one command looks at.
const MAX_WALK: usize = 20_000;

pub(super) fn stat(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let (args, values) = Args::new(argv, "cf");
    let mut status = 0;
    for path in &args.rest {
        let Ok((real, meta)) = shell.files.stat(&shell.cwd, path, false) else {
            shell.complain(io, &format!("stat: cannot statx '{path}': No such file or directory\n"));
            status = 1;
            continue;
        };
        let time = DateTime::<Utc>::from_timestamp(meta.mtime, 0).unwrap_or_default();
        let (user, group) = (shell.files.user_name(meta.uid), shell.files.group_name(meta.gid));
        if let Some((_, format)) = values.first() {
            let text = format
                .replace("%n", path)
                .replace("%s", &meta.size.to_string())
                .replace("%a", &format!("{:o}", meta.mode))
                .replace("%A", &meta.mode_text())
                .replace("%U", &user)
                .replace("%G", &group)
                .replace("%u", &meta.uid.to_string())
                .replace("%g", &meta.gid.to_string())
                .replace("%Y", &meta.mtime.to_string());
            shell.say(io, &format!("{text}\n"));
            continue;
        }
        let kind = match &meta.kind {
            Kind::File if meta.size == 0 => "regular empty file",
            Kind::File => "regular file",
            Kind::Folder => "directory",
            Kind::Link(_) => "symbolic link",
            Kind::Device(..) => "character special file",
        };
        let stamp = time.format("%Y-%m-%d %H:%M:%S.000000000 +0000");
        let inode = 131_072 + super::super::tree::seed_of(&real) % 900_000;
        let text = format!(
            "  File: {path}\n  Size: {:<10}\tBlocks: {:<10} IO Block: 4096   {kind}\nDevice: 8,1\tInode: {inode:<10}  Links: {}\nAccess: ({:04o}/{})  Uid: ({:5}/{user:>8})   Gid: ({:5}/{group:>8})\nAccess: {stamp}\nModify: {stamp}\nChange: {stamp}\n Birth: {stamp}\n",
            meta.size,
            meta.size.div_ceil(512),
            links_of(shell, &real, &meta),
            meta.mode,
            meta.mode_text(),
            meta.uid,
            meta.gid,
        );
        shell.say(io, &text);
    }
    status
}

pub(super) async fn find(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let mut words = argv.iter().skip(1).peekable();
    let mut roots = Vec::new();
    while let Some(word) = words.next_if(|word| !word.starts_with('-') && *word != "(" && *word != "!") {
        roots.push(word.clone());
    }
    if roots.is_empty() {
        roots.push(".".to_owned());
    }
    let (mut pattern, mut insensitive, mut kind, mut perm, mut depth, mut owner) =
        (None, false, None, None, usize::MAX, None);
    let (mut delete, mut run, mut writable): (bool, Option<Vec<String>>, bool) = (false, None, false);
    while let Some(word) = words.next() {
        match word.as_str() {
            "-name" => pattern = words.next().cloned(),
            "-iname" => {
                pattern = words.next().map(|word| word.to_lowercase());
                insensitive = true;
            }
            "-type" => kind = words.next().and_then(|word| word.chars().next()),
            "-perm" => {
                perm =
                    words.next().and_then(|word| {
                        u32::from_str_radix(word.trim_start_matches(['-', '/', '+']), 8)
                            .ok()
                            .or(if word.contains("u=s") { Some(0o4000) } else { None })
                    })
            }
            "-maxdepth" => depth = words.next().and_then(|word| word.parse().ok()).unwrap_or(usize::MAX),
            "-user" => owner = words.next().and_then(|name| shell.files.user(name)).map(|user| user.uid),
            "-writable" => writable = true,
            "-delete" => delete = true,
            "-exec" => run = Some(words.by_ref().take_while(|word| *word != ";" && *word != "+").cloned().collect()),
            "-size" | "-mtime" | "-mmin" | "-newer" | "-path" | "-group" | "-printf" => {
                words.next();
            }
            _ => {}
        }
    }
    let mut status = 0;
    let mut seen = 0;
    let mut found = Vec::new();
    for root in roots {
        let Ok((real, meta)) = shell.files.stat(&shell.cwd, &root, false) else {
            shell.complain(io, &format!("find: '{root}': No such file or directory\n"));
            status = 1;
            continue;
        };
        let mut todo = vec![(root, real, meta, 0_usize)];
        while let Some((shown, real, meta, level)) = todo.pop() {
            seen += 1;
            if seen > MAX_WALK {
                break;
            }
            let title = name(&shown).to_owned();
            let title = if insensitive { title.to_lowercase() } else { title };
            let type_fits = kind.is_none_or(|kind| match meta.kind {
                Kind::File => kind == 'f',
                Kind::Folder => kind == 'd',
                Kind::Link(_) => kind == 'l',
                Kind::Device(..) => kind == 'c' || kind == 'b',
            });
            if pattern.as_ref().is_none_or(|pattern| fits(pattern, &title))
                && type_fits
                && perm.is_none_or(|bits| meta.mode & bits == bits)
                && owner.is_none_or(|uid| meta.uid == uid)
                && (!writable || shell.user.uid == 0 || meta.mode & 0o002 != 0 || meta.uid == shell.user.uid)
            {
                found.push((shown.clone(), real.clone()));
            }
            if meta.is_folder() && level < depth {
                match shell.files.list("/", &real) {
                    Ok(list) => {
                        for (name, meta) in list.into_iter().rev() {
                            todo.push((join(&shown, &name), join(&real, &name), meta, level + 1));
                        }
                    }
                    Err(errno) => {
                        status = 1;
                        shell.complain(io, &format!("find: '{shown}': {}\n", errno.text()));
                    }
                }
            }
        }
    }
    for (shown, real) in found {
        if delete {
            let _ = shell.files.remove("/", &real, false, true);
        } else if let Some(run) = &run {
            let argv: Vec<String> = run.iter().map(|word| word.replace("{}", &shown)).collect();
            shell.call(&argv, io).await;
            if shell.flow.is_some() {
                break;
            }
        } else {
            shell.say(io, &format!("{shown}\n"));
        }
    }
    status
}

pub(super) fn du(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let (args, _) = Args::new(argv, "d");
    let roots = if args.rest.is_empty() { vec!["."] } else { args.rest.clone() };
    for root in roots {
        let Ok((real, _)) = shell.files.stat(&shell.cwd, root, true) else {
            shell.complain(io, &format!("du: cannot access '{root}': No such file or directory\n"));
            return 1;
        };
        let mut sum = 0;
        let mut todo = vec![real];
        let mut seen = 0;
        while let Some(path) = todo.pop() {
            seen += 1;
            if seen > MAX_WALK {
                break;
            }
            for (name, meta) in shell.files.list("/", &path).unwrap_or_default() {
                sum += meta.size.div_ceil(4096) * 4;
                if meta.is_folder() {
                    todo.push(join(&path, &name));
                }
            }
        }
        let size = if args.has('h') { human(sum * 1024) } else { sum.to_string() };
        shell.say(io, &format!("{size}\t{root}\n"));
    }
    0
}

pub(super) fn readlink(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let (args, _) = Args::new(argv, "");
    let whole = args.has('f') || args.has('e') || argv.first().is_some_and(|word| word.ends_with("realpath"));
    for path in &args.rest {
        let found = if whole {
            // Where a process of one's own leads.
            shell.files.resolve(&shell.cwd, path, true).ok()
        } else {
            match shell.files.stat(&shell.cwd, path, false) {
                Ok((_, Meta { kind: Kind::Link(target), .. })) => Some(target),
                _ => None,
            }
        };
        match found {
            Some(found) => shell.say(io, &format!("{found}\n")),
            None => return 1,
        }
    }
    0
}

pub(super) fn names(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let Some(path) = argv.get(1) else {
        return usage(shell, argv.first().map_or("basename", |word| name(word)), None, io);
    };
    let text = if argv.first().is_some_and(|word| word.ends_with("basename")) {
        let base = name(path);
        argv.get(2).and_then(|suffix| base.strip_suffix(suffix.as_str())).unwrap_or(base).to_owned()
    } else if path.contains('/') {
        parent(path).to_owned()
    } else {
        ".".to_owned()
    };
    shell.say(io, &format!("{text}\n"));
    0
}

pub(super) fn mktemp(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let folder = argv.iter().any(|word| word == "-d");
    let letters: String = (0..10)
        .map(|_| {
            char::from(
                *b"abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ0123456789"
                    .get(rand::random_range(0..59_usize))
                    .unwrap_or(&b'x'),
            )
        })
        .collect();
    let path = format!("/tmp/tmp.{letters}");
    let _ = if folder {
        shell.files.make_folder("/", &path, 0o700)
    } else {
        shell.files.truncate("/", &path, 0).map(|_| ())
    };
    shell.say(io, &format!("{path}\n"));
    0
}

pub(super) fn file(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let (args, _) = Args::new(argv, "");
    for path in &args.rest {
        let text = match shell.files.stat(&shell.cwd, path, false) {
            Err(_) => "cannot open (No such file or directory)".to_owned(),
            Ok((_, meta)) => match meta.kind {
                Kind::Folder => "directory".to_owned(),
                Kind::Link(target) => format!("symbolic link to {target}"),
                Kind::Device(major, minor) => format!("character special ({major}/{minor})"),
                Kind::File => {
                    let head = shell.files.read(&shell.cwd, path, 512).unwrap_or_default();
                    match head.as_slice() {
                        [] => "empty".to_owned(),
                        [0x7f, b'E', b'L', b'F', 2, ..] => "ELF 64-bit LSB pie executable, x86-64, version 1 (SYSV), dynamically linked, interpreter /lib64/ld-linux-x86-64.so.2, for GNU/Linux 3.2.0, stripped".to_owned(),
                        [0x7f, b'E', b'L', b'F', ..] => "ELF 32-bit LSB executable, ARM, EABI5 version 1 (SYSV), dynamically linked, stripped".to_owned(),
                        [0x1f, 0x8b, ..] => "gzip compressed data".to_owned(),
                        [b'#', b'!', ..] => "POSIX shell script, ASCII text executable".to_owned(),
                        bytes if bytes.is_ascii() && !bytes.contains(&0) => "ASCII text".to_owned(),
                        _ => "data".to_owned(),
                    }
                }
            },
        };
        shell.say(io, &format!("{path}: {text}\n"));
    }
    0
}

pub(super) fn attributes(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    if argv.first().is_some_and(|word| word.ends_with("lsattr")) {
        let path = argv.get(1).cloned().unwrap_or_else(|| ".".to_owned());
        for (name, _) in shell.files.list(&shell.cwd, &path).unwrap_or_default() {
            if !name.starts_with('.') {
                shell.say(io, &format!("--------------e------- {}\n", join(&path, &name)));
            }
        }
        return 0;
    }
    for path in argv.iter().skip(1).filter(|word| !word.starts_with(['-', '+', '='])) {
        if shell.files.stat(&shell.cwd, path, true).is_err() {
            let bytes = to_bytes(&format!("chattr: No such file or directory while trying to stat {path}\n"));
            shell.emit(&io.err, &bytes);
            return 1;
        }
    }
    0
}

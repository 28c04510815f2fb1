//! Commands that bring files: what they were asked for is told of, and nothing is ever fetched.

use std::time::Duration;

use chrono::Utc;

use super::{
    super::{
        Family,
        expand::told,
        run::{Io, Shell},
        vfs::name,
    },
    Args, net,
};
use crate::session::EventType;

/// Host and port of an address as wget and curl take it.
fn parts(url: &str) -> (String, u16) {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let authority = rest.split('/').next().unwrap_or(rest);
    let host = authority.rsplit('@').next().unwrap_or(authority);
    let (host, port) = match host.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (host, port.parse().ok()),
        _ => (host, None),
    };
    let port = port.unwrap_or(match scheme {
        "https" => 443,
        "ftp" => 21,
        _ => 80,
    });
    (host.trim_matches(['[', ']']).to_owned(), port)
}

pub(super) async fn fetch(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let program = argv.first().map(|word| name(word).to_owned()).unwrap_or_default();
    let valued = match program.as_str() {
        "wget" => "OPTUaeito",
        "curl" => "oHdXAeuxmTFbcr",
        "tftp" => "lrb",
        _ => "uPp",
    };
    let (args, values) = Args::new(argv, valued);
    let mut urls: Vec<String> = match program.as_str() {
        "tftp" => {
            let host = args.rest.iter().find(|word| !["get", "-c"].contains(word)).copied().unwrap_or("");
            let file = values
                .iter()
                .find(|(letter, _)| *letter == 'r')
                .map(|(_, file)| *file)
                .or_else(|| args.rest.last().copied())
                .unwrap_or("");
            vec![format!("tftp://{host}/{file}")]
        }
        "ftpget" | "ftpput" => {
            let host = args.rest.first().copied().unwrap_or("");
            vec![format!("ftp://{host}/{}", args.rest.get(2).or(args.rest.get(1)).copied().unwrap_or(""))]
        }
        _ => args.rest.iter().take(16).map(|url| (*url).to_owned()).collect(),
    };
    urls.retain(|url| !url.is_empty());
    if args.rest.is_empty() {
        let text = match (program.as_str(), shell.machine().facts().family) {
            ("wget", Family::BusyBox) => {
                "BusyBox v1.33.0 (2021-03-09 14:10:11 UTC) multi-call binary.\n\nUsage: wget [-cqS] [--spider] [-O FILE] [-o LOGFILE] [--header 'HEADER: VALUE'] URL...\n"
            }
            ("wget", _) if args.long("version") || args.has('V') => {
                shell.say(io, "GNU Wget 1.21.3 built on linux-gnu.\n");
                return 0;
            }
            ("curl", _) if args.long("version") || args.has('V') => {
                shell.say(io, "curl 7.88.1 (x86_64-pc-linux-gnu) libcurl/7.88.1 OpenSSL/3.0.11 zlib/1.2.13\nProtocols: dict file ftp ftps http https\n");
                return 0;
            }
            ("wget", _) => {
                "wget: missing URL\nUsage: wget [OPTION]... [URL]...\n\nTry `wget --help' for more options.\n"
            }
            ("curl", _) => "curl: try 'curl --help' or 'curl --manual' for more information\n",
            _ => "BusyBox v1.33.0 (2021-03-09 14:10:11 UTC) multi-call binary.\n\nUsage: tftp [OPTIONS] HOST [PORT]\n",
        };
        shell.complain(io, text);
        return if program == "curl" { 2 } else { 1 };
    }
    let mut status = 0;
    for url in urls {
        status = one(shell, &program, &url, &args, argv, io).await;
        if shell.flow.is_some() {
            return 130;
        }
    }
    status
}

async fn one(shell: &mut Shell, program: &str, url: &str, args: &Args<'_>, argv: &[String], io: &Io) -> i32 {
    let (host, port) = parts(url);
    let whole = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    shell.session.emit(
        EventType::DownloadAttempt,
        format!("{program} was asked for {}", told(&whole)),
        &[("url", &told(&whole)), ("tool", program), ("command", &told(&argv.join(" ")))],
    );
    let busybox = shell.machine().facts().family == Family::BusyBox;
    let quiet = args.has('q') || (program == "curl" && args.has('s'));
    if program == "wget" && !busybox && !quiet {
        let full = if url.contains("://") {
            url.to_owned()
        } else {
            format!("http://{url}{}", if url.contains('/') { "" } else { "/" })
        };
        let stamp = Utc::now().format("%Y-%m-%d %H:%M:%S");
        shell.complain(io, &format!("--{stamp}--  {full}\n"));
        let is_name = host.parse::<std::net::IpAddr>().is_err();
        shell.complain(
            io,
            &if is_name {
                format!("Resolving {host} ({host})... ")
            } else {
                format!("Connecting to {host}:{port}... ")
            },
        );
    } else if program == "wget" && busybox && host.parse::<std::net::IpAddr>().is_ok() {
        shell.complain(io, &format!("Connecting to {host} ({host}:{port})\n"));
    }
    let is_name = net::unreachable(shell, &host).await;
    let (text, status) = match (program, is_name) {
        ("wget", true) if busybox => (format!("wget: bad address '{host}'\n"), 1),
        ("wget", false) if busybox => (format!("wget: can't connect to remote host ({host}): No route to host\n"), 1),
        ("wget", _) if quiet => (String::new(), 4),
        ("wget", true) => (
            format!("failed: Temporary failure in name resolution.\nwget: unable to resolve host address '{host}'\n"),
            4,
        ),
        ("wget", false) => ("failed: No route to host.\n".to_owned(), 4),
        ("curl", _) if quiet && !args.has('S') => (String::new(), if is_name { 6 } else { 7 }),
        ("curl", true) => (format!("curl: (6) Could not resolve host: {host}\n"), 6),
        ("curl", false) => (
            format!("curl: (7) Failed to connect to {host} port {port} after 3058 ms: Couldn't connect to server\n"),
            7,
        ),
        ("tftp", true) => (format!("tftp: bad address '{host}'\n"), 1),
        ("tftp", false) => {
            shell.wait(Duration::from_secs(4)).await;
            ("tftp: timeout\n".to_owned(), 1)
        }
        ("fetch", _) => {
            (format!("fetch: {url}: {}\n", if is_name { "No address record" } else { "No route to host" }), 1)
        }
        (_, true) => (format!("{program}: bad address '{host}'\n"), 1),
        (_, false) => (format!("{program}: can't connect to remote host ({host}): No route to host\n"), 1),
    };
    shell.complain(io, &text);
    status
}

pub(super) async fn dd(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let value = |key: &str| argv.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    let size = |text: &str| {
        let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
        let factor = match text.get(digits.len()..).unwrap_or("") {
            "k" | "K" | "kB" => 1 << 10,
            "M" | "MB" => 1 << 20,
            "G" | "GB" => 1 << 30,
            _ => 1_u64,
        };
        digits.parse::<u64>().unwrap_or(0).saturating_mul(factor)
    };
    let block = value("bs").or(value("ibs")).map_or(512, size).max(1);
    let count = value("count").map(size);
    let skip = value("skip").map_or(0, size);
    let wanted = count.map_or(u64::MAX, |count| count.saturating_mul(block));
    let most = usize::try_from(wanted).unwrap_or(usize::MAX).min(1 << 20);
    let bytes = match value("if") {
        Some(path) => match shell
            .files
            .resolve(&shell.cwd, path, true)
            .and_then(|path| shell.files.read_at(&path, skip.saturating_mul(block), most))
        {
            Ok(bytes) => bytes,
            Err(errno) => {
                shell.complain(io, &format!("dd: failed to open '{path}': {}\n", errno.text()));
                return 1;
            }
        },
        None => {
            let mut bytes = shell.read_input(io).await;
            bytes.truncate(most);
            bytes
        }
    };
    // What would be more than is made up only counts.
    let endless = matches!(value("if"), Some("/dev/zero" | "/dev/urandom" | "/dev/random"));
    let total = if endless { wanted.min(64 << 30) } else { u64::try_from(bytes.len()).unwrap_or(0) };
    match value("of") {
        Some(path) => {
            let done = shell.files.truncate(&shell.cwd, path, if endless { total } else { 0 });
            let done =
                done.and_then(|_| if endless { Ok(()) } else { shell.files.write(&shell.cwd, path, Some(0), &bytes) });
            if let Err(errno) = done {
                shell.complain(io, &format!("dd: failed to open '{path}': {}\n", errno.text()));
                return 1;
            }
        }
        None => shell.emit(&io.out, &bytes),
    }
    let (full, part) = (total / block, u64::from(total % block > 0));
    let seconds = (total as f64 / 9e8).max(0.000_05);
    if shell.wait(Duration::from_secs_f64(seconds.min(20.0))).await {
        return 130;
    }
    if !argv.iter().any(|word| word == "status=none") {
        let human = if total >= 1_000_000 {
            format!(" ({:.1} MB, {:.1} MiB)", total as f64 / 1e6, total as f64 / 1_048_576.0)
        } else {
            String::new()
        };
        let tail = if shell.machine().facts().family == Family::BusyBox {
            format!("{total} bytes copied, {seconds:.6} seconds")
        } else {
            format!("{total} bytes{human} copied, {seconds:.6} s, {:.1} MB/s", total as f64 / seconds / 1e6)
        };
        shell.complain(io, &format!("{full}+{part} records in\n{full}+{part} records out\n{tail}\n"));
    }
    0
}

pub(super) fn tar(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let words: Vec<&String> = argv.iter().skip(1).collect();
    let options = words.first().map(|word| word.trim_start_matches('-')).unwrap_or("");
    let Some(file) = words.get(1).filter(|_| options.contains('f')) else {
        shell.complain(io, "tar: You must specify one of the '-Acdtrux', '--delete' or '--test-label' options\nTry 'tar --help' or 'tar --usage' for more information.\n");
        return 2;
    };
    if options.contains('c') {
        for path in words.iter().skip(2).filter(|path| !path.starts_with('-')) {
            if shell.files.stat(&shell.cwd, path, true).is_err() {
                shell.complain(io, &format!("tar: {path}: Cannot stat: No such file or directory\ntar: Exiting with failure status due to previous errors\n"));
                return 2;
            }
        }
        let size = 10_240 + u64::try_from(words.len()).unwrap_or(0) * 8192;
        let _ = shell.files.truncate(&shell.cwd, file, size);
        return 0;
    }
    match shell.files.read(&shell.cwd, file, 1 << 20) {
        Err(errno) => {
            shell.complain(
                io,
                &format!("tar: {file}: Cannot open: {}\ntar: Error is not recoverable: exiting now\n", errno.text()),
            );
            2
        }
        Ok(bytes) => {
            if bytes.starts_with(&[0x1f, 0x8b]) {
                return unpack_gz(shell, &bytes, options, io);
            }
            unpack(shell, &bytes, options, io)
        }
    }
}

fn unpack_gz(shell: &mut Shell, bytes: &[u8], options: &str, io: &Io) -> i32 {
    use std::io::Read;
    let mut plain = Vec::new();
    // Bounded: an archive that grows beyond this is cut.
    if flate2::read::GzDecoder::new(bytes).take(4 << 20).read_to_end(&mut plain).is_err() && plain.is_empty() {
        shell.complain(io, "\ngzip: stdin: unexpected end of file\ntar: Child returned status 1\ntar: Error is not recoverable: exiting now\n");
        return 2;
    }
    unpack(shell, &plain, options, io)
}

/// Files of an archive, into the folder that the shell is in.
fn unpack(shell: &mut Shell, bytes: &[u8], options: &str, io: &Io) -> i32 {
    let mut rest = bytes;
    let mut count = 0;
    while let Some((head, more)) = rest.split_at_checked(512) {
        let field = |from: usize, to: usize| {
            let part = head.get(from..to).unwrap_or_default();
            String::from_utf8_lossy(part.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
        };
        let path = field(0, 100);
        if path.is_empty() || head.get(257..262) != Some(b"ustar") || count > 500 {
            break;
        }
        count += 1;
        let size = usize::from_str_radix(field(124, 136).trim(), 8).unwrap_or(0);
        let data = more.get(..size.min(more.len())).unwrap_or_default();
        let clean: Vec<&str> =
            path.split('/').filter(|part| !part.is_empty() && *part != "." && *part != "..").collect();
        let clean = clean.join("/");
        if options.contains('t') || options.contains('v') {
            shell.say(io, &format!("{path}\n"));
        }
        if !options.contains('t') {
            let folder = head.get(156) == Some(&b'5');
            let mut above = String::new();
            let parts: Vec<&str> = clean.split('/').collect();
            for part in parts.iter().take(parts.len() - usize::from(!folder)).take(16) {
                above = if above.is_empty() { (*part).to_owned() } else { format!("{above}/{part}") };
                let _ = shell.files.make_folder(&shell.cwd, &above, 0o755);
            }
            if !folder && head.get(156).is_none_or(|kind| matches!(kind, 0 | b'0')) {
                let mode = u32::from_str_radix(field(100, 108).trim(), 8).unwrap_or(0o644) & 0o777;
                let _ = shell.files.truncate(&shell.cwd, &clean, 0);
                let _ = shell.files.write(&shell.cwd, &clean, None, data);
                let _ = shell.files.change(&shell.cwd, &clean, |meta| meta.mode = mode);
            }
        }
        rest = more.get(size.div_ceil(512).saturating_mul(512).min(more.len())..).unwrap_or_default();
    }
    if count == 0 {
        shell.complain(
            io,
            "tar: This does not look like a tar archive\ntar: Exiting with failure status due to previous errors\n",
        );
        return 2;
    }
    0
}

pub(super) fn gzip(shell: &mut Shell, argv: &[String], io: &Io) -> i32 {
    let (args, _) = Args::new(argv, "");
    let program = argv.first().map(|word| name(word).to_owned()).unwrap_or_default();
    let suffix = if program.starts_with("bz") || program == "bunzip2" { ".bz2" } else { ".gz" };
    for path in &args.rest {
        let to = if program.starts_with("gun") || program.starts_with("bun") || args.has('d') {
            path.trim_end_matches(suffix).to_owned()
        } else {
            format!("{path}{suffix}")
        };
        if let Err(errno) = shell.files.rename(&shell.cwd, path, &to) {
            shell.complain(io, &format!("{program}: {path}: {}\n", errno.text()));
            return 1;
        }
    }
    0
}

//! The far side of scp as it was before it spoke sftp: files in and out of the believable machine.

use crate::{
    session::{EventType, escaped},
    shell::{Shell, vfs},
};

/// Longest line of the protocol.
const MAX_LINE: usize = 1024;
/// Deepest nesting of folders.
const MAX_DEPTH: usize = 16;
/// Largest file that is taken: what is beyond ends the transfer.
const MAX_FILE: u64 = 64 << 20;

/// What scp was started for.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    sink: bool,
    recursive: bool,
    path: String,
}

impl Request {
    /// From the command line; none when it is no scp of a client.
    pub fn parse(command: &str) -> Option<Request> {
        let mut words = command.split_whitespace();
        if words.next()?.rsplit('/').next()? != "scp" {
            return None;
        }
        let (mut sink, mut source, mut recursive) = (false, false, false);
        let mut path = String::new();
        for word in words {
            match word.strip_prefix('-').filter(|_| path.is_empty()) {
                Some("-") => {}
                Some(letters) => {
                    sink |= letters.contains('t');
                    source |= letters.contains('f');
                    recursive |= letters.contains('r');
                }
                None if path.is_empty() => path = word.trim_matches(['"', '\'']).to_owned(),
                None => {
                    path.push(' ');
                    path.push_str(word);
                }
            }
        }
        (sink != source).then_some(Request {
            sink,
            recursive,
            path: if path.is_empty() { ".".to_owned() } else { path },
        })
    }
}

/// Speaks the protocol. The exit status.
pub async fn serve(shell: &mut Shell, request: &Request, command: &str) -> i32 {
    let status = if request.sink { sink(shell, request).await } else { source(shell, request).await };
    let command = escaped(command.as_bytes(), 2048);
    let cwd = shell.cwd().to_owned();
    shell.session().emit(
        EventType::Command,
        format!("command: {command}"),
        &[("command", &command), ("cwd", &cwd), ("exit_code", &status.to_string())],
    );
    status
}

async fn say(shell: &mut Shell, bytes: &[u8]) -> bool {
    shell.terminal().write(bytes).await.is_ok()
}

async fn complain(shell: &mut Shell, text: &str) {
    let mut bytes = vec![1];
    bytes.extend_from_slice(format!("scp: {text}\n").as_bytes());
    say(shell, &bytes).await;
}

async fn line(shell: &mut Shell) -> Option<String> {
    let mut line = Vec::new();
    loop {
        match shell.terminal().byte().await? {
            b'\n' => return Some(String::from_utf8_lossy(&line).into_owned()),
            byte if line.len() < MAX_LINE => line.push(byte),
            _ => return None,
        }
    }
}

async fn sink(shell: &mut Shell, request: &Request) -> i32 {
    let mut folders = vec![request.path.clone()];
    let into =
        |shell: &Shell, path: &str| shell.files().stat(shell.cwd(), path, true).is_ok_and(|(_, meta)| meta.is_folder());
    if !say(shell, &[0]).await {
        return 1;
    }
    let mut status = 0;
    while let Some(line) = line(shell).await {
        let (kind, rest) = line.split_at_checked(1).unwrap_or(("", ""));
        let mut words = rest.splitn(3, ' ');
        let (mode, size, name) = (words.next().unwrap_or(""), words.next().unwrap_or(""), words.next().unwrap_or(""));
        let here = folders.last().cloned().unwrap_or_else(|| ".".to_owned());
        let clean = !name.is_empty() && !name.contains('/') && name != "." && name != "..";
        match kind {
            "T" => {}
            "E" => {
                folders.pop();
                if folders.is_empty() {
                    return status;
                }
            }
            "D" if clean && request.recursive && folders.len() < MAX_DEPTH => {
                let path = if into(shell, &here) { format!("{here}/{name}") } else { here };
                let _ = shell.files().make_folder(shell.cwd(), &path, u32::from_str_radix(mode, 8).unwrap_or(0o755));
                folders.push(path);
            }
            "C" if clean => {
                let Ok(size) = size.parse::<u64>() else {
                    complain(shell, "protocol error: size not delimited").await;
                    return 1;
                };
                let path = if into(shell, &here) { format!("{}/{name}", here.trim_end_matches('/')) } else { here };
                if size > MAX_FILE {
                    complain(shell, &format!("{path}: No space left on device")).await;
                    return 1;
                }
                match shell.files().truncate(shell.cwd(), &path, 0) {
                    Err(errno) => {
                        complain(shell, &format!("{path}: {}", errno.text())).await;
                        status = 1;
                        continue;
                    }
                    Ok(real) => {
                        if !say(shell, &[0]).await || !receive(shell, &real, name, size).await {
                            return 1;
                        }
                        let mode = u32::from_str_radix(mode, 8).unwrap_or(0o644) & 0o777;
                        let _ = shell.files().change("/", &real, |meta| meta.mode = mode);
                    }
                }
            }
            _ => {
                complain(shell, "protocol error: unexpected <newline>").await;
                return 1;
            }
        }
        if !say(shell, &[0]).await {
            return 1;
        }
    }
    status
}

/// The bytes of one file, and the byte that says how it went.
async fn receive(shell: &mut Shell, path: &str, name: &str, size: u64) -> bool {
    let mut capture = shell.session().capture(name).await;
    let mut left = size;
    while left > 0 {
        let wanted = usize::try_from(left).unwrap_or(usize::MAX);
        let Some(chunk) = shell.terminal().some(wanted).await else { break };
        left -= u64::try_from(chunk.len()).unwrap_or(left).min(left);
        let _ = shell.files().write("/", path, None, &chunk);
        if let Some(capture) = &mut capture
            && capture.write(&chunk).await.is_err()
        {
            break;
        }
    }
    if let Some(capture) = capture {
        let _ = capture.finish(path).await;
    }
    left == 0 && shell.terminal().byte().await == Some(0)
}

async fn source(shell: &mut Shell, request: &Request) -> i32 {
    if shell.terminal().byte().await != Some(0) {
        return 1;
    }
    let (path, meta) = match shell.files().stat(shell.cwd(), &request.path, true) {
        Ok(found) => found,
        Err(errno) => {
            complain(shell, &format!("{}: {}", request.path, errno.text())).await;
            return 1;
        }
    };
    if meta.is_folder() && !request.recursive {
        complain(shell, &format!("{}: not a regular file", request.path)).await;
        return 1;
    }
    // Folders are left again by an entry of their own.
    let mut todo = vec![Some(path)];
    let mut sent = 0;
    while let Some(next) = todo.pop() {
        let Some(path) = next else {
            if !say(shell, b"E\n").await || shell.terminal().byte().await != Some(0) {
                return 1;
            }
            continue;
        };
        sent += 1;
        let Ok((_, meta)) = shell.files().stat("/", &path, true) else { continue };
        let name = vfs::name(&path).to_owned();
        if meta.is_folder() {
            if todo.len() > 4096 || sent > 4096 {
                continue;
            }
            if !say(shell, format!("D{:04o} 0 {name}\n", meta.mode & 0o777).as_bytes()).await
                || shell.terminal().byte().await != Some(0)
            {
                return 1;
            }
            todo.push(None);
            let below = shell.files().list("/", &path).unwrap_or_default();
            todo.extend(below.into_iter().rev().map(|(name, _)| Some(format!("{path}/{name}"))));
            continue;
        }
        shell.files().settle("/", &path).await;
        let size = shell.files().read_at(&path, 0, 8 << 20).map(|bytes| bytes.len());
        let size = match size {
            Ok(size) => size,
            Err(errno) => {
                complain(shell, &format!("{path}: {}", errno.text())).await;
                continue;
            }
        };
        if !say(shell, format!("C{:04o} {size} {name}\n", meta.mode & 0o777).as_bytes()).await
            || shell.terminal().byte().await != Some(0)
        {
            return 1;
        }
        let mut at = 0;
        while at < size {
            let part = shell
                .files()
                .read_at(&path, u64::try_from(at).unwrap_or(0), (size - at).min(32 << 10))
                .unwrap_or_default();
            if part.is_empty() || !say(shell, &part).await {
                return 1;
            }
            at += part.len();
        }
        if !say(shell, &[0]).await || shell.terminal().byte().await != Some(0) {
            return 1;
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scp_of_clients_is_known_from_scp_that_is_typed() {
        let request = Request::parse("scp -r -t /tmp/").unwrap();
        assert!(request.sink && request.recursive && request.path == "/tmp/");
        assert!(!Request::parse("/usr/bin/scp -pf -- a\\ b").unwrap().sink);
        assert_eq!(Request::parse("scp a b"), None);
        assert_eq!(Request::parse("ls -t"), None);
    }
}

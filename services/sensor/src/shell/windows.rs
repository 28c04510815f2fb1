//! `cmd.exe`, as far as somebody who looks around meets it.

use chrono::{DateTime, Utc};

use super::{
    daemons,
    expand::{fits, told},
    run::{Flow, Io, Shell, Sink, Source},
    tty::{Ask, Read},
    vfs::{Errno, name},
};
use crate::{persona::Os, session::EventType};

/// A path of ours as Windows has it.
fn shown(path: &str) -> String {
    format!("C:{}", path.replace('/', "\\"))
}

/// A path of Windows as ours.
fn ours(path: &str) -> String {
    let path = path.trim_matches('"').replace('\\', "/");
    let lower = path.to_ascii_lowercase();
    match lower.strip_prefix("c:") {
        Some("") => "/".to_owned(),
        Some(_) => path.get(2..).unwrap_or("/").to_owned(),
        None => path,
    }
}

fn version(shell: &Shell) -> String {
    format!("\nMicrosoft Windows [Version {}]\n", shell.machine().facts().kernel)
}

/// Talks until the client leaves.
pub(super) async fn interact(shell: &mut Shell) -> i32 {
    let banner = format!("{}(c) 2018 Microsoft Corporation. All rights reserved.\n\n", version(shell).trim_start());
    let _ = shell.terminal.write(banner.as_bytes()).await;
    loop {
        let host = shell.machine().persona().hostname.clone();
        let prompt = format!(
            "{}\\{}@{} {}>",
            host.to_lowercase(),
            shell.user.name.to_lowercase(),
            host.to_uppercase(),
            shown(&shell.cwd)
        );
        let history = shell.history.clone();
        match shell.terminal.read_line(&Ask { prompt: &prompt, echo: true, history: &history, complete: None }).await {
            Read::Line(line) if line.trim().is_empty() => {}
            Read::Line(line) => {
                if shell.history.len() < 200 {
                    shell.history.push(line.clone());
                }
                shell.status = execute(shell, &line).await;
                if shell.flow.take() == Some(Flow::Exit) {
                    return shell.status;
                }
                let _ = shell.terminal.write(b"\n").await;
            }
            Read::Interrupt => {}
            Read::End => return shell.status,
        }
    }
}

/// Runs a line: commands with `&` and `&&` between them.
pub(super) async fn execute(shell: &mut Shell, line: &str) -> i32 {
    let cwd = shown(&shell.cwd);
    let mut status = 0;
    for part in line.replace("&&", "&").split('&').take(64) {
        let command = part.split('|').next().unwrap_or("").trim();
        if command.is_empty() {
            continue;
        }
        let (command, target) = match command.split_once('>') {
            Some((command, target)) => (command.trim(), Some(ours(target.trim_start_matches('>').trim()))),
            None => (command, None),
        };
        let buffer = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let out = if target.is_some() { Sink::Buffer(buffer.clone()) } else { Sink::Out };
        let io = Io { input: Source::Terminal, out, err: Sink::Err };
        status = one(shell, command, &io).await;
        if let Some(target) = target {
            let bytes = std::mem::take(&mut *buffer.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
            if target != "nul" && shell.files.truncate(&shell.cwd, &target, 0).is_ok() {
                let _ = shell.files.write(&shell.cwd, &target, None, &bytes);
            }
        }
        shell.flush().await;
        if shell.flow.is_some() {
            break;
        }
    }
    let line = told(line);
    shell.session.emit(
        EventType::Command,
        format!("command: {line}"),
        &[("command", &line), ("cwd", &cwd), ("exit_code", &status.to_string())],
    );
    status
}

fn variables(shell: &Shell) -> Vec<(&'static str, String)> {
    let host = shell.machine().persona().hostname.to_uppercase();
    vec![
        ("ALLUSERSPROFILE", "C:\\ProgramData".to_owned()),
        ("APPDATA", format!("{}\\AppData\\Roaming", shown(&shell.user.home))),
        ("COMPUTERNAME", host.clone()),
        ("ComSpec", "C:\\Windows\\system32\\cmd.exe".to_owned()),
        ("NUMBER_OF_PROCESSORS", shell.machine().processors().to_string()),
        ("OS", "Windows_NT".to_owned()),
        ("Path", "C:\\Windows\\system32;C:\\Windows;C:\\Windows\\System32\\Wbem;C:\\Windows\\System32\\WindowsPowerShell\\v1.0\\;C:\\Windows\\System32\\OpenSSH\\".to_owned()),
        ("PROCESSOR_ARCHITECTURE", "AMD64".to_owned()),
        ("SystemDrive", "C:".to_owned()),
        ("SystemRoot", "C:\\Windows".to_owned()),
        ("TEMP", format!("{}\\AppData\\Local\\Temp", shown(&shell.user.home))),
        ("USERDOMAIN", host),
        ("USERNAME", shell.user.name.clone()),
        ("USERPROFILE", shown(&shell.user.home)),
        ("windir", "C:\\Windows".to_owned()),
    ]
}

async fn one(shell: &mut Shell, command: &str, io: &Io) -> i32 {
    let mut command = command.to_owned();
    for (name, value) in variables(shell) {
        for written in [format!("%{name}%"), format!("%{}%", name.to_lowercase()), format!("%{}%", name.to_uppercase())]
        {
            command = command.replace(&written, &value);
        }
    }
    let (word, rest) = command
        .split_once([' ', '/', '\t'])
        .map_or((command.as_str(), ""), |(word, _)| (word, command.get(word.len()..).unwrap_or("")));
    let rest = rest.trim();
    let lower = word.to_ascii_lowercase();
    let program = lower.trim_end_matches(".exe").rsplit('\\').next().unwrap_or("").to_owned();
    let host = shell.machine().persona().hostname.clone();
    let operands: Vec<String> =
        rest.split_whitespace().filter(|word| !word.starts_with('/') || word.len() > 3).map(str::to_owned).collect();
    let first = operands.first().map(|path| ours(path));
    match program.as_str() {
        "cd" | "chdir" => {
            let target = ours(rest.trim_start_matches("/d").trim());
            if target.is_empty() {
                let text = format!("{}\n", shown(&shell.cwd));
                shell.say(io, &text);
                return 0;
            }
            match shell.files.stat(&shell.cwd, &target, true) {
                Ok((path, meta)) if meta.is_folder() => {
                    shell.cwd = path;
                    0
                }
                _ => fail(shell, io, "The system cannot find the path specified.\n"),
            }
        }
        "cd.." => {
            shell.cwd = super::vfs::parent(&shell.cwd).to_owned();
            0
        }
        "cd\\" => {
            shell.cwd = "/".to_owned();
            0
        }
        "dir" => dir(shell, first.as_deref().unwrap_or("."), io),
        "type" | "more" => match shell.files.read(&shell.cwd, first.as_deref().unwrap_or(""), 1 << 20) {
            Ok(bytes) => {
                shell.emit(&io.out, &bytes);
                0
            }
            Err(_) => fail(shell, io, "The system cannot find the file specified.\n"),
        },
        "echo" | "echo." => {
            let text = if rest.is_empty() { "\n".to_owned() } else { format!("{rest}\n") };
            shell.say(io, &text);
            0
        }
        "md" | "mkdir" => match shell.files.make_folder(&shell.cwd, first.as_deref().unwrap_or(""), 0o755) {
            Ok(()) => 0,
            Err(Errno::Exists) => fail(
                shell,
                io,
                &format!("A subdirectory or file {} already exists.\n", operands.first().cloned().unwrap_or_default()),
            ),
            Err(_) => fail(shell, io, "The system cannot find the path specified.\n"),
        },
        "del" | "erase" | "rd" | "rmdir" => {
            let folder = program.starts_with('r');
            let all = rest.to_ascii_lowercase().contains("/s");
            match shell.files.remove(&shell.cwd, first.as_deref().unwrap_or(""), folder, all && folder) {
                Ok(()) => 0,
                Err(Errno::NotEmpty) => fail(shell, io, "The directory is not empty.\n"),
                Err(_) if folder => fail(shell, io, "The system cannot find the file specified.\n"),
                Err(_) => {
                    let path = shell
                        .files
                        .resolve(&shell.cwd, first.as_deref().unwrap_or(""), true)
                        .map(|path| shown(&path))
                        .unwrap_or_default();
                    fail(shell, io, &format!("Could Not Find {path}\n"))
                }
            }
        }
        "copy" | "move" | "ren" | "rename" => {
            let (Some(from), Some(to)) = (first, operands.get(1).map(|path| ours(path))) else {
                return fail(shell, io, "The syntax of the command is incorrect.\n");
            };
            let to = if shell.files.stat(&shell.cwd, &to, true).is_ok_and(|(_, meta)| meta.is_folder()) {
                format!("{to}/{}", name(&from))
            } else {
                to
            };
            let done = if program == "copy" {
                shell.files.read(&shell.cwd, &from, 4 << 20).and_then(|bytes| {
                    shell.files.truncate(&shell.cwd, &to, 0)?;
                    shell.files.write(&shell.cwd, &to, None, &bytes)
                })
            } else {
                shell.files.rename(&shell.cwd, &from, &to)
            };
            match done {
                Ok(()) if program == "copy" || program == "move" => {
                    shell.say(
                        io,
                        if program == "copy" { "        1 file(s) copied.\n" } else { "        1 file(s) moved.\n" },
                    );
                    0
                }
                Ok(()) => 0,
                Err(_) => fail(shell, io, "The system cannot find the file specified.\n"),
            }
        }
        "ver" => {
            let text = version(shell);
            shell.say(io, &text);
            0
        }
        "whoami" => {
            let user = format!("{}\\{}", host.to_lowercase(), shell.user.name.to_lowercase());
            let text = if rest.contains("/priv") || rest.contains("/all") || rest.contains("/groups") {
                format!(
                    "\nUSER INFORMATION\n----------------\n\nUser Name  SID\n========== ==============================================\n{user} {}\n\nPRIVILEGES INFORMATION\n----------------------\n\nPrivilege Name                Description                          State\n============================= ==================================== =======\nSeDebugPrivilege              Debug programs                       Enabled\nSeBackupPrivilege             Back up files and directories        Enabled\nSeImpersonatePrivilege        Impersonate a client after authentication Enabled\n",
                    sid(shell)
                )
            } else {
                format!("{user}\n")
            };
            shell.say(io, &text);
            0
        }
        "hostname" => {
            shell.say(io, &format!("{host}\n"));
            0
        }
        "set" => {
            let text: String = variables(shell).into_iter().map(|(name, value)| format!("{name}={value}\n")).collect();
            shell.say(io, &text);
            0
        }
        "ipconfig" => {
            let machine = shell.machine().clone();
            let card = if rest.to_ascii_lowercase().contains("all") {
                format!(
                    "\n   Host Name . . . . . . . . . . . . : {host}\n   Primary Dns Suffix  . . . . . . . : \n   Node Type . . . . . . . . . . . . : Hybrid\n   IP Routing Enabled. . . . . . . . : No\n   WINS Proxy Enabled. . . . . . . . : No\n\nEthernet adapter {}:\n\n   Physical Address. . . . . . . . . : {}\n   DHCP Enabled. . . . . . . . . . . : No\n",
                    machine.facts().interface,
                    machine.persona().mac.to_uppercase().replace(':', "-")
                )
            } else {
                format!(
                    "\n\nEthernet adapter {}:\n\n   Connection-specific DNS Suffix  . : \n",
                    machine.facts().interface
                )
            };
            shell.say(io, &format!("\nWindows IP Configuration\n{card}   IPv4 Address. . . . . . . . . . . : {}\n   Subnet Mask . . . . . . . . . . . : 255.255.255.0\n   Default Gateway . . . . . . . . . : {}\n", machine.persona().ip, machine.gateway()));
            0
        }
        "systeminfo" => {
            let machine = shell.machine().clone();
            let stamp = |time: DateTime<Utc>| time.format("%-m/%-d/%Y, %-I:%M:%S %p").to_string();
            let text = format!(
                "\nHost Name:                 {}\nOS Name:                   {}\nOS Version:                {}\nOS Manufacturer:           Microsoft Corporation\nOS Configuration:          Standalone {}\nOS Build Type:             Multiprocessor Free\nRegistered Owner:          Windows User\nProduct ID:                00429-{:05}-{:05}-AA{:03}\nOriginal Install Date:     {}\nSystem Boot Time:          {}\nSystem Manufacturer:       QEMU\nSystem Model:              Standard PC (Q35 + ICH9, 2009)\nSystem Type:               x64-based PC\nProcessor(s):              1 Processor(s) Installed.\n                           [01]: Intel64 Family 6 Model 85 Stepping 7 GenuineIntel ~2494 Mhz\nWindows Directory:         C:\\Windows\nSystem Directory:          C:\\Windows\\system32\nTime Zone:                 (UTC) Coordinated Universal Time\nTotal Physical Memory:     {} MB\nDomain:                    WORKGROUP\nLogon Server:              \\\\{}\n",
                host.to_uppercase(),
                machine.facts().pretty,
                machine.facts().kernel_version,
                if machine.persona().os == Os::WindowsServer2019 { "Server" } else { "Workstation" },
                machine.persona().number("product a", 100_000),
                machine.persona().number("product b", 100_000),
                machine.persona().number("product c", 1000),
                stamp(machine.installed_at()),
                stamp(machine.persona().booted_at),
                machine.memory() / 1024,
                host.to_uppercase()
            );
            if shell.wait(std::time::Duration::from_millis(1500)).await {
                return 130;
            }
            shell.say(io, &text);
            0
        }
        "net" | "net1" => net(shell, &operands, io),
        "tasklist" => {
            let mut text = "\nImage Name                     PID Session Name        Session#    Mem Usage\n========================= ======== ================ =========== ============\n".to_owned();
            for (n, name) in [
                "System Idle Process",
                "System",
                "Registry",
                "smss.exe",
                "csrss.exe",
                "wininit.exe",
                "services.exe",
                "lsass.exe",
                "svchost.exe",
                "svchost.exe",
                "MsMpEng.exe",
                "sshd.exe",
                "spoolsv.exe",
                "conhost.exe",
                "cmd.exe",
                "tasklist.exe",
            ]
            .into_iter()
            .enumerate()
            {
                let pid = match n {
                    0 => 0,
                    1 => 4,
                    _ => shell.machine().pid(&format!("{name} {n}"), 22 * n as u64, 22 * n as u64 + 20) * 4,
                };
                let memory = 1000 + shell.machine().persona().number(&format!("task {n}"), 60_000);
                text.push_str(&format!(
                    "{name:<25} {pid:>8} Services                   0 {:>10} K\n",
                    format!("{},{:03}", memory / 1000, memory % 1000)
                ));
            }
            shell.say(io, &text);
            0
        }
        "netstat" => {
            let (peer, local) = (shell.session.peer(), shell.machine().persona().ip);
            let mut ports = vec![135, 445];
            ports.extend(daemons::of(shell.machine()).into_iter().filter(|d| !d.udp).flat_map(|d| d.ports));
            ports.sort_unstable();
            let mut text =
                "\nActive Connections\n\n  Proto  Local Address          Foreign Address        State\n".to_owned();
            for port in ports {
                let address = format!("0.0.0.0:{port}");
                text.push_str(&format!("  TCP    {address:<22} 0.0.0.0:0              LISTENING\n"));
            }
            text.push_str(&format!(
                "  TCP    {:<22} {:<22} ESTABLISHED\n",
                format!("{local}:22"),
                format!("{}:{}", peer.ip(), peer.port())
            ));
            shell.say(io, &text);
            0
        }
        "certutil" | "bitsadmin" | "curl" | "powershell" | "wget" => {
            let address = command.split([' ', '\'', '"', '(', ')', ',', ';']).find(|word| word.contains("://"));
            if let Some(address) = address {
                let told_command = told(&command);
                shell.session.emit(
                    EventType::DownloadAttempt,
                    format!("{program} was asked for {}", told(address)),
                    &[("url", &told(address)), ("tool", &program), ("command", &told_command)],
                );
                if shell.wait(std::time::Duration::from_secs(4)).await {
                    return 130;
                }
                let text = match program.as_str() {
                    "certutil" => "****  Online  ****\nCertUtil: -URLCache command FAILED: 0x80072ee7 (WinHttp: 12007 ERROR_WINHTTP_NAME_NOT_RESOLVED)\nCertUtil: The server name or address could not be resolved\n".to_owned(),
                    "curl" => format!("curl: (6) Could not resolve host: {}\n", address.split('/').nth(2).unwrap_or("")),
                    "powershell" => "Unable to connect to the remote server\n".to_owned(),
                    _ => "Unable to add file - 0x80072ee7\n".to_owned(),
                };
                return fail(shell, io, &text);
            }
            if program == "powershell" && rest.is_empty() {
                shell.say(io, "Windows PowerShell \nCopyright (C) Microsoft Corporation. All rights reserved.\n");
            }
            0
        }
        "cls" => {
            shell.say(io, "\x1b[2J\x1b[H");
            0
        }
        "exit" | "logout" => {
            shell.flow = Some(Flow::Exit);
            rest.parse().unwrap_or(0)
        }
        "ping" => {
            let target = operands.last().cloned().unwrap_or_default();
            shell.wait(std::time::Duration::from_secs(2)).await;
            fail(
                shell,
                io,
                &format!("Ping request could not find host {target}. Please check the name and try again.\n"),
            )
        }
        "where" => {
            let path = format!(
                "/Windows/System32/{}.exe",
                operands.first().cloned().unwrap_or_default().trim_end_matches(".exe")
            );
            match shell.files.stat("/", &path, true) {
                Ok((path, _)) => {
                    shell.say(io, &format!("{}\n", shown(&path)));
                    0
                }
                Err(_) => fail(shell, io, "INFO: Could not find files for the given pattern(s).\n"),
            }
        }
        "cmd" => {
            let inner = rest
                .trim_start_matches(|c: char| c == '/' || c.is_ascii_alphabetic())
                .trim()
                .trim_matches('"')
                .to_owned();
            if inner.is_empty() {
                0
            } else {
                Box::pin(one(shell, &inner.chars().take(2048).collect::<String>(), io)).await
            }
        }
        _ => {
            let known = shell.files.stat("/", &format!("/Windows/System32/{program}.exe"), true).is_ok()
                || shell.files.stat(&shell.cwd, &ours(word), true).is_ok();
            if known {
                return 0;
            }
            fail(
                shell,
                io,
                &format!(
                    "'{word}' is not recognized as an internal or external command,\noperable program or batch file.\n"
                ),
            )
        }
    }
}

fn fail(shell: &mut Shell, io: &Io, text: &str) -> i32 {
    shell.complain(io, text);
    1
}

fn sid(shell: &Shell) -> String {
    let number = |label: &str| shell.machine().persona().number(label, 4_000_000_000);
    format!("S-1-5-21-{}-{}-{}-{}", number("sid a"), number("sid b"), number("sid c"), shell.user.uid)
}

fn dir(shell: &mut Shell, path: &str, io: &Io) -> i32 {
    let (folder, pattern) = if path.contains('*') {
        (super::vfs::parent(path).to_owned(), name(path).to_owned())
    } else {
        (path.to_owned(), String::new())
    };
    let folder = if pattern.is_empty() || path.contains('/') { folder } else { ".".to_owned() };
    let Ok((real, list)) = shell
        .files
        .resolve(&shell.cwd, &folder, true)
        .and_then(|real| shell.files.list("/", &real).map(|list| (real, list)))
    else {
        return fail(shell, io, "File Not Found\n");
    };
    let serial = shell.machine().persona().secret("volume");
    let [a, b, c, d, ..] = serial;
    let mut text = format!(
        " Volume in drive C has no label.\n Volume Serial Number is {a:02X}{b:02X}-{c:02X}{d:02X}\n\n Directory of {}\n\n",
        shown(&real)
    );
    let (mut files, mut folders, mut bytes) = (0, 0, 0);
    for (name, meta) in list {
        if !pattern.is_empty() && !fits(&pattern.to_lowercase(), &name.to_lowercase()) {
            continue;
        }
        let time = DateTime::<Utc>::from_timestamp(meta.mtime, 0).unwrap_or_default().format("%m/%d/%Y  %I:%M %p");
        if meta.is_folder() {
            folders += 1;
            text.push_str(&format!("{time}    <DIR>          {name}\n"));
        } else {
            files += 1;
            bytes += meta.size;
            text.push_str(&format!("{time}    {:>14} {name}\n", thousands(meta.size)));
        }
    }
    let free = (shell.machine().disk() - shell.machine().disk_used()) * 1024;
    text.push_str(&format!(
        "{files:>16} File(s) {:>14} bytes\n{folders:>16} Dir(s)  {:>14} bytes free\n",
        thousands(bytes),
        thousands(free)
    ));
    shell.say(io, &text);
    0
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (n, c) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(c);
    }
    text
}

fn net(shell: &mut Shell, operands: &[String], io: &Io) -> i32 {
    let host = shell.machine().persona().hostname.to_uppercase();
    let words: Vec<&str> = operands.iter().map(String::as_str).collect();
    let text = match words.as_slice() {
        ["user" | "users"] => {
            let mut names: Vec<String> = shell.files.users().into_iter().map(|user| user.name).collect();
            names.extend(["DefaultAccount", "Guest", "WDAGUtilityAccount"].map(str::to_owned));
            let rows: String = names.chunks(3).map(|row| row.iter().map(|name| format!("{name:<25}")).collect::<String>() + "\n").collect();
            format!("\nUser accounts for \\\\{host}\n\n-------------------------------------------------------------------------------\n{rows}The command completed successfully.\n\n")
        }
        ["user", user, password, ..] => {
            let (user, password) = (told(user), told(password));
            shell.session.emit(EventType::AuthSuccess, format!("net user for {user}"), &[("username", &user), ("password", &password), ("method", "net user")]);
            shell.files.login(&user);
            "The command completed successfully.\n\n".to_owned()
        }
        ["user", user] if shell.files.user(user).is_some() => format!("User name                    {user}\nFull Name\nAccount active               Yes\nAccount expires              Never\n\nLocal Group Memberships      *Administrators\nGlobal Group memberships     *None\nThe command completed successfully.\n\n"),
        ["user", ..] => return fail(shell, io, "The user name could not be found.\n\nMore help is available by typing NET HELPMSG 2221.\n\n"),
        ["localgroup", ..] => "Alias name     administrators\nComment        Administrators have complete and unrestricted access to the computer/domain\n\nMembers\n\n-------------------------------------------------------------------------------\nAdministrator\nThe command completed successfully.\n\n".to_owned(),
        ["start"] => "These Windows services are started:\n\n   Background Tasks Infrastructure Service\n   Base Filtering Engine\n   COM+ Event System\n   DHCP Client\n   OpenSSH SSH Server\n   Print Spooler\n   Windows Defender Antivirus Service\n\nThe command completed successfully.\n\n".to_owned(),
        _ => "There are no entries in the list.\n\n".to_owned(),
    };
    shell.say(io, &text);
    0
}

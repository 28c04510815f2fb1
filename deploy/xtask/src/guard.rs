//! A watchdog that cleans up when this process cannot: killed hard, or ended by a second Ctrl-C.
//!
//! It is a small shell that reads what there is to clean up from a pipe. When the pipe closes without
//! a farewell, it ends the process groups, takes Compose projects down and removes the folders.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use anyhow::{Context as _, Result};

const SCRIPT: &str = r#"
trap '' HUP INT TERM
groups=' ' folders='' projects='' mounts=''
newline='
'
while IFS=' ' read -r what value; do
  case $what in
    group) groups="$groups$value " ;;
    gone) case $groups in *" $value "*) groups="${groups%%" $value "*} ${groups#*" $value "}" ;; esac ;;
    mount) mounts="$mounts$value$newline" ;;
    folder) folders="$folders$value$newline" ;;
    project) projects="$projects $value" ;;
    end) exit 0 ;;
  esac
done
for group in $groups; do kill -TERM "-$group" 2>/dev/null; done
waited=0
while [ $waited -lt 50 ]; do
  alive=
  for group in $groups; do kill -0 "-$group" 2>/dev/null && alive=1; done
  [ -n "$alive" ] || break
  sleep 0.1
  waited=$((waited + 1))
done
for group in $groups; do kill -KILL "-$group" 2>/dev/null; done
for project in $projects; do docker compose -p "$project" down --volumes >/dev/null 2>&1; done
printf '%s' "$mounts" | while IFS= read -r mount; do umount -l -- "$mount" 2>/dev/null; done
printf '%s' "$folders" | while IFS= read -r folder; do rm -rf -- "$folder"; done
"#;

static WATCHDOG: Mutex<Option<Child>> = Mutex::new(None);

/// Starts the watchdog, in a process group of its own so that Ctrl-C does not reach it.
pub fn start() -> Result<()> {
    let child = Command::new("sh")
        .args(["-c", SCRIPT])
        .process_group(0)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start `sh`")?;
    if let Ok(mut slot) = WATCHDOG.lock() {
        *slot = Some(child);
    }
    Ok(())
}

fn tell(line: &str) {
    if let Ok(mut slot) = WATCHDOG.lock()
        && let Some(stdin) = slot.as_mut().and_then(|child| child.stdin.as_mut())
    {
        // A watchdog that is gone cannot be told; ordinary clean-up does not need it.
        let _ = writeln!(stdin, "{line}");
    }
}

/// This process group is to be ended.
pub fn group(id: u32) {
    tell(&format!("group {id}"));
}

/// This process group has ended.
pub fn gone(id: u32) {
    tell(&format!("gone {id}"));
}

/// What is mounted here is to be unmounted.
pub fn mount(path: &Path) {
    tell(&format!("mount {}", path.display()));
}

/// This folder (or file) is to be removed.
pub fn folder(path: &Path) {
    tell(&format!("folder {}", path.display()));
}

/// This Compose project is to be taken down.
pub fn project(name: &str) {
    tell(&format!("project {name}"));
}

/// All is cleaned up: the watchdog may go.
pub fn end() {
    tell("end");
    if let Ok(mut slot) = WATCHDOG.lock()
        && let Some(mut child) = slot.take()
    {
        drop(child.stdin.take());
        let _ = child.wait();
    }
}

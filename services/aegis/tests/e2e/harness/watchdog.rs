//! Ends what the tests leave behind: products live in statics, which nobody drops.

use std::{
    io::Write,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{LazyLock, Mutex, PoisonError},
};

/// A shell that reads what to clean up from a pipe and does so when the pipe closes, however this process ended.
const SCRIPT: &str = r#"
trap '' HUP INT TERM
processes=' '
newline='
'
folders=''
while IFS=' ' read -r what value; do
  case $what in
    process) processes="$processes$value " ;;
    gone) case $processes in *" $value "*) processes="${processes%%" $value "*} ${processes#*" $value "}" ;; esac ;;
    folder) folders="$folders$value$newline" ;;
  esac
done
for process in $processes; do kill -KILL "$process" 2>/dev/null; done
sleep 0.2
printf '%s' "$folders" | while IFS= read -r folder; do rm -rf -- "$folder"; done
"#;

static WATCHDOG: LazyLock<Mutex<Child>> = LazyLock::new(|| {
    let child = Command::new("sh")
        .args(["-c", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("sh starts");
    Mutex::new(child)
});

fn tell(line: &str) {
    let mut child = WATCHDOG.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(pipe) = child.stdin.as_mut() {
        writeln!(pipe, "{line}").expect("the watchdog listens");
    }
}

/// This process is to be ended.
pub fn process(id: u32) {
    tell(&format!("process {id}"));
}

/// This process has ended.
pub fn gone(id: u32) {
    tell(&format!("gone {id}"));
}

/// This folder is to be removed.
pub fn folder(path: &Path) {
    tell(&format!("folder {}", path.display()));
}

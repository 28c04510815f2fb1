//! A process and all that it has started: some servers are many processes, each in a group of its own.

use std::collections::HashMap;
use std::fs;

use rustix::process::{Pid, Signal, kill_process};

/// Sends it to the process first, then to those that it has started, and so on.
pub fn signal(root: u32, signal: Signal) {
    for pid in members(root) {
        if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
            // One that is gone already is what is wanted.
            let _ = kill_process(pid, signal);
        }
    }
}

/// The process first, then those that it has started, and so on.
pub fn members(root: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if let Some(parent) = parent(pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut members = vec![root];
    let mut at = 0;
    while let Some(pid) = members.get(at) {
        members.extend(children.remove(pid).unwrap_or_default());
        at += 1;
    }
    members
}

/// The fourth field of its line; the second is a name in brackets that may have anything in it.
fn parent(pid: u32) -> Option<u32> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    line.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

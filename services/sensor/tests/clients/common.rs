//! Decoys to talk to, and clients to talk with.

use std::{process::Stdio, sync::Arc, time::Duration};

use aegis_sensor::{
    decoys::{self, Options},
    persona::{Os, Persona},
    testing::{self, Decoy},
};
use tokio::io::AsyncWriteExt;

/// How long a client may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// A decoy with this service; options as in a deployment.
pub fn decoy(service: &str, os: Os, options: &[(&str, &str)]) -> Decoy {
    start(testing::persona(os), service, options)
}

/// A decoy of this decky.
pub fn start(persona: Arc<Persona>, service: &str, options: &[(&str, &str)]) -> Decoy {
    let options: Options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let server = decoys::server(service, &persona, &options).unwrap();
    Decoy::start(persona, service, server).unwrap()
}

/// Whether all of these programs are installed; says which one is not.
pub fn have(programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    programs.iter().all(|program| {
        let found = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
        if !found {
            eprintln!("skipped: {program} is not installed");
        }
        found
    })
}

/// What a client did.
pub struct Ran {
    /// Its standard output and then its standard error.
    pub text: String,
    pub success: bool,
}

/// Runs a client.
pub async fn run(program: &str, args: &[&str]) -> Ran {
    run_with(program, args, b"").await
}

/// Runs a client that is given an input.
pub async fn run_with(program: &str, args: &[&str], input: &[u8]) -> Ran {
    let mut child = tokio::process::Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let feed = tokio::spawn(async move {
        // A client that ends early does not read it all.
        let _ = stdin.write_all(&input).await;
    });
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
    let output = output.unwrap_or_else(|_| panic!("{program} {args:?} did not end")).unwrap();
    feed.await.unwrap();
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    Ran { text, success: output.status.success() }
}

/// What nmap -sV says about a decoy's port.
pub async fn nmap(decoy: &Decoy) -> String {
    let port = decoy.address().port().to_string();
    let ran = run("nmap", &["-Pn", "-n", "-sT", "-sV", "-p", &port, "127.0.0.1"]).await;
    ran.text.lines().find(|line| line.starts_with(&port)).unwrap_or(&ran.text).to_owned()
}

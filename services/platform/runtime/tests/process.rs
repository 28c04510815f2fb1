//! Stop, tasks and readiness.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aegis_runtime::{Check, Readiness, Service, Shutdown, Task, signals};

const LONG: Duration = Duration::from_secs(30);

#[tokio::test]
async fn drain_waits_for_tasks_to_finish_their_work() {
    let shutdown = Shutdown::new();
    let done = Arc::new(AtomicU32::new(0));
    for _ in 0..3 {
        let done = Arc::clone(&done);
        Task::new("worker", |shutdown: Shutdown| async move {
            shutdown.cancelled().await;
            tokio::task::yield_now().await;
            done.fetch_add(1, Ordering::SeqCst);
        })
        .spawn(&shutdown);
    }
    assert!(shutdown.drain(LONG).await);
    assert_eq!(done.load(Ordering::SeqCst), 3);
    assert!(shutdown.token().is_cancelled() && !shutdown.failed());
}

#[tokio::test]
async fn drain_gives_up_on_a_stuck_task() {
    let shutdown = Shutdown::new();
    shutdown.spawn("stuck", std::future::pending());
    assert!(!shutdown.drain(Duration::from_millis(10)).await);
}

#[tokio::test]
async fn a_panic_in_a_task_stops_the_process_in_order() {
    let shutdown = Shutdown::new();
    shutdown.spawn("faulty", async { panic!("a fault") });
    shutdown.cancelled().await;
    assert!(shutdown.failed());
    assert!(shutdown.drain(LONG).await);
}

/// Not a test of its own: the process that the next test sends signals to.
#[tokio::test]
async fn signalled_process() {
    if std::env::var_os("SIGNALLED_PROCESS").is_none() {
        return;
    }
    let shutdown = Shutdown::new();
    let waiting = tokio::spawn(signals(shutdown.clone()));
    // The handlers are there once the task has been polled.
    tokio::task::yield_now().await;
    println!("started");
    shutdown.cancelled().await;
    println!("stopping");
    waiting.await.unwrap().unwrap();
}

fn wait_for(lines: &mut impl Iterator<Item = std::io::Result<String>>, wanted: &str) {
    assert!(lines.any(|line| line.unwrap().contains(wanted)), "no {wanted}");
}

fn send(signal: &str, child: &Child) {
    let status = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

#[test]
fn the_first_signal_stops_and_the_second_exits() {
    for signal in ["-TERM", "-INT"] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "signalled_process", "--nocapture"])
            .env("SIGNALLED_PROCESS", "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        wait_for(&mut lines, "started");
        send(signal, &child);
        wait_for(&mut lines, "stopping");
        send(signal, &child);
        assert_eq!(child.wait().unwrap().code(), Some(130));
    }
}

#[tokio::test]
async fn readiness_reports_each_check_and_reuses_the_answer() {
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    let service = Service::new("demo", tonic::service::Routes::default())
        .check(Check::new("database", move || {
            count.fetch_add(1, Ordering::SeqCst);
            std::future::ready(Ok(()))
        }))
        .check(Check::new("bus", || async { Err("down".to_owned()) }))
        .check(Check::new("stuck", std::future::pending));
    let shutdown = Shutdown::new();
    let readiness = Readiness::new(shutdown.clone(), service.readiness);
    let (report, same) = tokio::join!(readiness.report(), readiness.report());
    assert_eq!(report, same);
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    assert_eq!(report[0], ("process", Ok(())));
    assert_eq!(report[1], ("database", Ok(())));
    assert_eq!(report[2], ("bus", Err("down".to_owned())));
    assert_eq!(report[3], ("stuck", Err("no answer in time".to_owned())));
    assert!(!readiness.ready().await);
}

#[tokio::test]
async fn what_is_not_needed_is_told_and_no_more() {
    let check = Check::new("cache", || async { Err("down".to_owned()) }).optional();
    let readiness = Readiness::new(Shutdown::new(), vec![Check::new("database", || async { Ok(()) }), check]);
    assert!(readiness.ready().await);
    assert_eq!(readiness.report().await[2], ("cache", Err("down".to_owned())));
    assert!(readiness.needs("database") && readiness.needs("process") && !readiness.needs("cache"));
}

#[tokio::test]
async fn a_stopping_process_is_not_ready_at_once() {
    let shutdown = Shutdown::new();
    let check = Check::new("database", || async { Ok(()) });
    let readiness = Readiness::new(shutdown.clone(), vec![check]);
    assert!(readiness.ready().await);
    shutdown.cancel();
    assert!(!readiness.ready().await);
}

//! What a contained process can do and what it cannot. One test, because it is for good and for the whole process.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, also in its helpers"
)]
#![cfg(target_os = "linux")]

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    process::Command,
};

use aegis_sensor::contain::contain;

#[test]
fn a_contained_process_works_in_its_folder_and_goes_nowhere_else() {
    let folder = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), "of the product").unwrap();
    let deception = TcpListener::bind("127.0.0.1:0").unwrap();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = deception.local_addr().unwrap().port();

    // On a thread: what the others of the test's harness do is theirs, as far as the kernel lets us tell them apart.
    let secrets = outside.path().to_owned();
    let contained = std::thread::spawn(move || {
        let contained = contain(folder.path(), &[port], &[]).unwrap();
        println!("{contained}");
        assert!(contained.privileges_dropped);

        // Its own work goes on: files, threads, an asynchronous runtime, connections of others, datagrams.
        std::fs::write(folder.path().join("own.new"), "own").unwrap();
        std::fs::rename(folder.path().join("own.new"), folder.path().join("own")).unwrap();
        assert_eq!(std::fs::read_to_string(folder.path().join("own")).unwrap(), "own");
        std::fs::remove_file(folder.path().join("own")).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let decoy = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            drop(decoy);
            tokio::task::spawn_blocking(|| ()).await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        });
        UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut out = TcpStream::connect(("127.0.0.1", port)).unwrap();
        out.write_all(b"event").unwrap();
        drop(out);
        let mut told = String::new();
        deception.accept().unwrap().0.read_to_string(&mut told).unwrap();
        assert_eq!(told, "event");

        if contained.seccomp {
            assert!(Command::new("/bin/true").status().is_err(), "another program was run");
        }
        if contained.landlock != "no" {
            assert!(std::fs::write(secrets.join("new"), "x").is_err(), "wrote outside of its folder");
            assert!(std::fs::read(secrets.join("secret")).is_err(), "read outside of its folder");
        }
        if contained.landlock == "full" {
            let refused = TcpStream::connect(other.local_addr().unwrap());
            assert!(refused.is_err(), "connected to somebody else");
        }
    });
    contained.join().unwrap();
}

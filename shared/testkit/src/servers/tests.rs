use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::process::Guarded;
use super::*;

fn eventually(what: &str, check: impl Fn() -> bool) {
    let begun = Instant::now();
    while !check() {
        assert!(begun.elapsed() < Duration::from_secs(120), "{what}");
        sleep(Duration::from_millis(10));
    }
}

/// A "server" that writes its process id into its folder and sleeps.
fn sleeper() -> (PathBuf, Guarded, u32) {
    let dir = tempfile::tempdir().unwrap().keep();
    let mut command = Command::new("sh");
    command.args(["-c", "echo started; echo $$ > pid.new; mv pid.new pid; exec sleep 600"]);
    let process = Guarded::spawn(&dir, &command).unwrap();
    eventually("the server starts", || dir.join("pid").exists());
    let pid = std::fs::read_to_string(dir.join("pid"))
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    (dir, process, pid)
}

fn runs(pid: u32) -> bool {
    Command::new("kill")
        .args(["-0", &pid.to_string()])
        .output()
        .unwrap()
        .status
        .success()
}

#[test]
fn a_dropped_server_is_gone_with_its_folder() {
    let (dir, process, pid) = sleeper();
    assert!(runs(pid));
    assert_eq!(process.last_words(), "started");
    drop(process);
    eventually("the server is killed", || !runs(pid));
    eventually("its folder is removed", || !dir.exists());
}

#[test]
fn a_killed_server_leaves_its_folder() {
    let (dir, process, pid) = sleeper();
    process.kill();
    eventually("the server is killed", || !runs(pid));
    assert!(dir.join("pid").exists());
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn kafka_stops_and_restarts_with_its_data() {
    if kafka().is_none() {
        return;
    }
    let server = KafkaServer::provision_and_start().unwrap();
    let address = server.bootstrap();
    assert!(TcpStream::connect(&address).is_ok());
    server.stop();
    assert!(TcpStream::connect(&address).is_err());
    server.restart().unwrap();
    assert!(TcpStream::connect(&address).is_ok());
    assert_eq!(server.bootstrap(), address);
    drop(server);
    assert!(TcpStream::connect(&address).is_err());
}

/// The listener shows a certificate that the authority signed for the loopback address.
#[test]
fn kafka_is_reached_by_scram_over_tls() {
    if kafka().is_none() {
        return;
    }
    let server = KafkaServer::provision_and_start_secure().unwrap();
    let properties = server.secure().unwrap();
    let certificate = Command::new("openssl")
        .args(["s_client", "-verify_return_error", "-verify_ip", "127.0.0.1", "-CAfile"])
        .args([
            &properties["ssl.ca.location"],
            "-connect",
            &properties["bootstrap.servers"],
        ])
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&certificate.stdout);
    assert!(
        certificate.status.success() && printed.contains("Verify return code: 0 (ok)"),
        "{printed}"
    );
    assert!(kafka().unwrap().secure().is_none());
}

#[test]
fn s3_stops_and_restarts_with_its_data() {
    if s3().is_none() {
        return;
    }
    let server = S3Server::provision_and_start().unwrap();
    let address = server.options["aws_endpoint"]
        .strip_prefix("http://")
        .unwrap()
        .to_owned();
    server.stop();
    assert!(TcpStream::connect(&address).is_err());
    server.restart().unwrap();
    assert!(TcpStream::connect(&address).is_ok());
    drop(server);
    assert!(TcpStream::connect(&address).is_err());
}

#[test]
fn s3_serves() {
    let Some(server) = s3() else { return };
    assert_eq!(server.url, "s3://anabranch");
    let address = server.options["aws_endpoint"].strip_prefix("http://").unwrap();
    assert!(TcpStream::connect(address).is_ok());
}

//! The first thing anybody runs.

use anabranch_e2e::{Site, gate, ports};

#[test]
fn a_bounded_demo_ends_with_equality() {
    let _gate = gate::heavy();
    let site = Site::new("", "");
    let listen = format!("127.0.0.1:{}", ports::free());
    let output = site.cli(&["demo", "--for", "12s", "--listen", &listen]).success();
    assert!(
        output.stdout.contains("equal the generator's truth"),
        "{}",
        output.stdout
    );
    assert!(
        output.stdout.contains(&listen),
        "it prints where the API is: {}",
        output.stdout
    );
    assert!(
        output.stdout.contains("curl "),
        "it prints a line to try: {}",
        output.stdout
    );
    assert!(!output.stdout.contains("DIFFERENT"), "{}", output.stdout);
}

#[test]
fn a_demo_wants_a_new_folder() {
    let site = Site::new("", "");
    let output = site.cli(&["demo", "--for", "1s", "--keep", site.config()]).refused();
    assert!(output.stderr.contains("is not empty"), "{}", output.stderr);
}

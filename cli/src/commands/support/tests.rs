use super::*;

fn unpacked(path: &Path) -> Vec<(String, String)> {
    let file = std::fs::File::open(path).unwrap();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
    let entries = archive.entries().unwrap();
    entries
        .map(|entry| {
            let mut entry = entry.unwrap();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            (entry.path().unwrap().display().to_string(), text)
        })
        .collect()
}

#[test]
fn no_secret_is_in_it_wherever_it_turns_up() {
    let settings = "[kafka]\n\"sasl.password\" = \"hush-1\"\n[storage.options]\naws_secret_access_key = \"hush-2\"\naws_region = \"x\"";
    let settings = Settings::parse(settings, "anabranch.toml", []).unwrap();
    let mut bundle = Bundle {
        secrets: secrets(&settings),
        ..Bundle::default()
    };
    bundle.add("anabranch.toml", toml::to_string(&settings).unwrap());
    bundle.add_json(
        "status.json",
        Ok(json!({"error": "login as x with hush-1 failed", "n": 1})),
    );
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bundle.tar.gz");
    bundle.write(&path, "folder").unwrap();
    let files = unpacked(&path);
    let names: Vec<_> = files.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["folder/anabranch.toml", "folder/status.json"]);
    assert!(files.iter().all(|(_, text)| !text.contains("hush")), "{files:?}");
    assert!(files[1].1.contains("login as x with *** failed"), "{files:?}");
}

#[test]
fn of_a_long_log_whole_lines_of_the_end_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let line = "a line of the log, with its number\n";
    let lines = LOG_BYTES as usize / line.len() + 1000;
    std::fs::write(&path, line.repeat(lines)).unwrap();
    let text = tail(&path).unwrap();
    assert!(text.starts_with("a line") && text.len() as u64 <= LOG_BYTES);
    std::fs::write(&path, "short\n").unwrap();
    assert_eq!(tail(&path).unwrap(), "short\n");
}

#[test]
fn tokens_do_not_leave_the_machine_wherever_they_stand() {
    let text = "token ab_eced84572996_Wu2YcMkPrFLMZKJ3u48k-qmqdb0bAHF1zohjcIIigwE was refused\n\
                authorization: Bearer eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJtZSJ9.c2ln;\n\
                file ab_test_one.rs, host db.example.com, äb_\n";
    let clean = "token ab_eced84572996_*** was refused\nauthorization: Bearer ***;\n\
                 file ab_test_one.rs, host db.example.com, äb_\n";
    assert_eq!(without_credentials(text), clean);
    assert_eq!(without_credentials(""), "");
}

//! Every sample in deploy/ is read by what will read it: settings, views, and YAML.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anabranch_definitions::compile;
use anabranch_e2e::data::workspace;
use anabranch_e2e::yaml;
use anabranch_runtime::Settings;
use serde_json::Value;

/// All files below deploy/.
fn samples() -> Vec<PathBuf> {
    fn below(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).expect("the folder can be read") {
            let path = entry.expect("the entry can be read").path();
            if path.is_dir() {
                below(&path, found)
            } else {
                found.push(path)
            }
        }
    }
    let mut found = Vec::new();
    below(&workspace().join("deploy"), &mut found);
    found.sort();
    found
}

fn with_extension(extension: &str) -> Vec<(PathBuf, String)> {
    let found: Vec<_> = samples()
        .into_iter()
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .map(|path| {
            (
                path.clone(),
                std::fs::read_to_string(path).expect("the sample can be read"),
            )
        })
        .collect();
    assert!(
        !found.is_empty(),
        "deploy/ has no .{extension} any more; this test checks nothing"
    );
    found
}

/// Variables that a text names as `${NAME}` or `${NAME:-default}`.
fn variables(text: &str) -> BTreeSet<String> {
    let names = text
        .split("${")
        .skip(1)
        .filter_map(|rest| rest.split(['}', ':']).next());
    names.map(str::to_owned).collect()
}

#[test]
fn settings_parse() {
    for (path, text) in with_extension("toml") {
        let environment: Vec<_> = variables(&text)
            .into_iter()
            .map(|name| (name, "value".to_owned()))
            .collect();
        let settings = Settings::parse(&text, &path.display().to_string(), environment);
        settings.unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn views_compile() {
    for (path, sql) in with_extension("sql") {
        let (catalog, views) = compile(&sql).unwrap_or_else(|found| {
            let shown: Vec<_> = found
                .iter()
                .map(|problem| problem.render(&path.display().to_string(), &sql))
                .collect();
            panic!("{}", shown.join("\n"))
        });
        assert!(
            !catalog.sources.is_empty() && !views.is_empty(),
            "{} declares nothing",
            path.display()
        );
    }
}

#[test]
fn compose_files_are_yaml_and_name_what_is_there() {
    for (path, text) in with_extension("yaml") {
        let document = yaml::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        if path.file_name().is_some_and(|name| name == "compose.yaml") {
            check_compose(&document, path.parent().expect("a file lies in a folder"));
        }
    }
}

fn check_compose(compose: &Value, folder: &Path) {
    let services = compose["services"].as_object().expect("compose has services");
    for name in ["kafka", "speed", "batch", "serve"] {
        let service = services.get(name).unwrap_or_else(|| panic!("compose has no {name}"));
        assert!(service["healthcheck"]["test"].is_array(), "{name} has no health check");
    }
    for (name, service) in services {
        for volume in service["volumes"].as_array().into_iter().flatten() {
            let volume = volume.as_str().expect("volumes are written short");
            let (from, _) = volume.split_once(':').expect("a volume has a place inside");
            if from.starts_with("./") {
                assert!(folder.join(from).exists(), "{name} mounts {from}, which is not there");
            } else {
                assert!(
                    compose["volumes"].get(from).is_some(),
                    "{name} mounts `{from}`, which is not declared"
                );
            }
        }
        for other in service["depends_on"].as_object().into_iter().flat_map(|on| on.keys()) {
            assert!(
                services.contains_key(other),
                "{name} depends on `{other}`, which is not there"
            );
        }
        let dockerfile = &service["build"]["dockerfile"];
        if let Some(dockerfile) = dockerfile.as_str() {
            assert!(
                workspace().join(dockerfile).is_file(),
                "{name} is built from {dockerfile}, which is not there"
            );
        }
    }
}

//! Every sample in deploy/ is read by what will read it: settings, views, and YAML.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

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

/// A kustomization may only use files below its own folder, so the sample is there twice.
#[test]
fn compose_and_kubernetes_have_the_same_views() {
    let deploy = workspace().join("deploy");
    let [compose, kubernetes] = ["config/views.sql", "kubernetes/base/config/views.sql"]
        .map(|file| std::fs::read_to_string(deploy.join(file)).expect("the sample can be read"));
    assert_eq!(
        compose, kubernetes,
        "copy deploy/config/views.sql to deploy/kubernetes/base/config"
    );
}

/// What `kubectl apply --kustomize` would send, rendered by the real thing where it is installed.
#[test]
fn kustomize_renders_the_overlay() {
    let overlay = workspace().join("deploy/kubernetes/overlays/example");
    let output = match Command::new("kubectl").arg("kustomize").arg(&overlay).output() {
        Ok(output) => output,
        Err(error) => {
            eprintln!("SKIPPED kustomize_renders_the_overlay: kubectl: {error}");
            return;
        }
    };
    let problems = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{problems}");
    let rendered = String::from_utf8(output.stdout).expect("manifests are text");
    let documents: Vec<Value> = rendered
        .split("\n---\n")
        .map(|document| yaml::parse(document).unwrap_or_else(|error| panic!("{error}: {document}")))
        .collect();
    let of_kind = |kind: &str| {
        documents
            .iter()
            .filter(|document| document["kind"] == kind)
            .collect::<Vec<_>>()
    };
    let names = |kind: &str| -> BTreeSet<String> {
        let named = of_kind(kind)
            .into_iter()
            .map(|document| document["metadata"]["name"].as_str());
        named
            .map(|name| name.expect("everything has a name").to_owned())
            .collect()
    };
    let services = ["speed", "batch", "serve"].map(str::to_owned).into();
    assert_eq!(
        (names("Deployment"), names("Service")),
        (BTreeSet::clone(&services), services)
    );
    // Pods mount the settings by the name that carries their hash: another text rolls them out anew.
    let configs = names("ConfigMap");
    for deployment in of_kind("Deployment") {
        let pod = &deployment["spec"]["template"]["spec"];
        let volumes = pod["volumes"].as_array().expect("pods have volumes");
        let mounted = volumes.iter().find_map(|volume| volume["configMap"]["name"].as_str());
        assert!(
            mounted.is_some_and(|name| configs.contains(name)),
            "{mounted:?} of {configs:?}"
        );
        assert_eq!(deployment["metadata"]["namespace"], "anabranch");
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

/// Manifests of a kustomization, by file name.
fn manifests(folder: &Path) -> BTreeMap<String, Value> {
    let read = |name: &str| {
        let path = folder.join(name);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        yaml::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let kustomization = read("kustomization.yaml");
    assert_eq!(kustomization["kind"], "Kustomization");
    let resources = kustomization["resources"]
        .as_array()
        .expect("a kustomization has resources");
    let mut found = BTreeMap::new();
    for resource in resources {
        let name = resource.as_str().expect("a resource is a path");
        assert!(
            folder.join(name).exists(),
            "{} is not there",
            folder.join(name).display()
        );
        if name.ends_with(".yaml") {
            found.insert(name.to_owned(), read(name));
        }
    }
    for generator in kustomization["configMapGenerator"].as_array().into_iter().flatten() {
        for file in generator["files"].as_array().into_iter().flatten() {
            let file = folder.join(file.as_str().expect("a file is a path"));
            assert!(file.is_file(), "{} is not there", file.display());
        }
    }
    let there = std::fs::read_dir(folder).expect("the folder can be read");
    let files = there.filter_map(|entry| entry.expect("the folder can be read").file_name().into_string().ok());
    for file in files.filter(|file| file.ends_with(".yaml") && file != "kustomization.yaml") {
        assert!(found.contains_key(&file), "kustomization.yaml leaves out {file}");
    }
    found
}

#[test]
fn kubernetes_manifests_fit_each_other_and_the_services() {
    let kubernetes = workspace().join("deploy/kubernetes");
    assert!(
        manifests(&kubernetes.join("overlays/example")).is_empty(),
        "the example adds to the base by its kustomization"
    );
    let manifests = manifests(&kubernetes.join("base"));
    let settings =
        std::fs::read_to_string(kubernetes.join("base/config/anabranch.toml")).expect("the settings are there");
    let environment = variables(&settings).into_iter().map(|name| (name, "value".to_owned()));
    let settings = Settings::parse(&settings, "anabranch.toml", environment).unwrap_or_else(|error| panic!("{error}"));
    for (service, listen) in [
        ("speed", &settings.speed.listen),
        ("batch", &settings.batch.listen),
        ("serve", &settings.serving.listen),
    ] {
        let pod = &manifests[&format!("{service}.yaml")]["spec"]["template"];
        let container = &pod["spec"]["containers"][0];
        assert_eq!(container["args"], serde_json::json!([service]));
        let (_, port) = listen.split_once(':').expect("an address has a port");
        assert_eq!(
            container["ports"][0]["containerPort"], port,
            "{service} listens elsewhere"
        );
        assert_eq!(container["readinessProbe"]["httpGet"]["path"], "/readyz");
        assert_eq!(container["livenessProbe"]["httpGet"]["path"], "/healthz");
        let exposed = &manifests[&format!("{service}-service.yaml")]["spec"];
        assert_eq!(exposed["ports"][0]["port"], port);
        let labels = &pod["metadata"]["labels"];
        let selectors = [
            &exposed["selector"],
            &manifests[&format!("{service}.yaml")]["spec"]["selector"]["matchLabels"],
        ];
        for selector in selectors {
            assert_eq!(selector, labels, "a selector of {service} fits other pods");
        }
        // Overrides of the environment must name settings that there are.
        let overrides = container["env"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|variable| variable["name"].as_str());
        let overrides = overrides.filter(|name| name.starts_with("ANABRANCH__"));
        let overrides: Vec<_> = overrides
            .map(|name| (name.to_owned(), "http://10.0.0.1:1".to_owned()))
            .collect();
        assert!(!overrides.is_empty(), "{service} does not say where others reach it");
        Settings::parse("", "the environment", overrides).unwrap_or_else(|error| panic!("{service}: {error}"));
    }
    assert!(
        !settings.serving.drain.is_zero(),
        "a pod that stops at once is still asked by the others"
    );
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

//! The layout: a layer never depends on another layer, nor what they share on any of them.

use std::collections::BTreeMap;
use std::process::Command;

use anabranch_e2e::data::workspace;
use serde_json::Value;

/// Folders of the layers; a crate below one belongs to it.
const LAYERS: [&str; 3] = ["speed-layer", "batch-layer", "serving"];
const SHARED: &str = "shared";

/// A crate of the workspace: its folder and what it depends on, in every kind of dependency.
struct Package {
    folder: String,
    dependencies: Vec<String>,
}

#[test]
fn a_layer_depends_on_no_other_layer() {
    let packages = packages();
    let layer_of = |name: &str| {
        let top = packages.get(name)?.folder.split('/').next()?;
        LAYERS.into_iter().find(|layer| *layer == top)
    };
    for layer in LAYERS {
        assert!(
            packages.keys().any(|name| layer_of(name) == Some(layer)),
            "{layer}/ has no crates; was it renamed?"
        );
    }
    let mut wrong = Vec::new();
    for (name, package) in &packages {
        let own = layer_of(name);
        let is_shared = package.folder.split('/').next() == Some(SHARED);
        for dependency in &package.dependencies {
            match layer_of(dependency) {
                Some(layer) if is_shared => {
                    wrong.push(format!("{name} is shared, but depends on {dependency} of {layer}/"))
                }
                Some(layer) if own.is_some_and(|own| own != layer) => {
                    wrong.push(format!("{name} depends on {dependency} of {layer}/"));
                }
                _ => {}
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn packages() -> BTreeMap<String, Package> {
    let root = workspace();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(&root)
        .output()
        .expect("cargo can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON");
    let root = metadata["workspace_root"].as_str().expect("there is a root").to_owned();
    let text = |value: &Value| value.as_str().expect("a name is text").to_owned();
    let package = |package: &Value| {
        let manifest = text(&package["manifest_path"]);
        let folder = manifest
            .trim_start_matches(&root)
            .trim_start_matches('/')
            .trim_end_matches("/Cargo.toml");
        let dependencies = package["dependencies"].as_array().expect("there is a list");
        let dependencies = dependencies
            .iter()
            .map(|dependency| text(&dependency["name"]))
            .collect();
        (
            text(&package["name"]),
            Package {
                folder: folder.to_owned(),
                dependencies,
            },
        )
    };
    metadata["packages"]
        .as_array()
        .expect("there are packages")
        .iter()
        .map(package)
        .collect()
}

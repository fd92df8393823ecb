//! A local object store on a disk that is full.

use std::path::Path;

use anabranch_model::OffsetVector;
use anabranch_testkit::SmallDisk;

use crate::harness::*;

/// Files that a put was to make and did not.
fn leftovers(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.display().to_string();
        if path.is_dir() {
            found.extend(leftovers(&path));
        } else if name.contains('#') {
            found.push(name);
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_on_a_full_disk_is_waited_for_and_damages_nothing() {
    let mut world = World::new();
    let folder = world.folder.path().join("store");
    let Some(disk) = SmallDisk::mount(&folder, 16 << 20) else {
        return;
    };
    world.store = open_store(world.folder.path());
    let worker = world.start("a").await;
    let all = events(0..6_000);
    world.append(&all[..3_000]).await;
    world.landed().await;

    let ballast = disk.fill().unwrap();
    let through = world.append(&all[3_000..]).await;
    let error = eventually("it says what it waits for", async || {
        let status = worker.status().await;
        let trouble = &status["sources"]["clicks"]["landing_trouble"]["error"];
        trouble.as_str().map(str::to_owned)
    })
    .await;
    assert!(error.contains("the disk is full; free some space"), "{error}");
    assert!(error.contains(&folder.display().to_string()), "{error}");
    let mut reader = worker.reader().await;
    assert_eq!(
        reader.answers(&OffsetVector::new(), &through).await,
        truth(&all),
        "visible although not landed"
    );
    assert_eq!(
        world.landed_rows().await.len(),
        3_000,
        "what was landed can be read, and nothing else"
    );

    std::fs::remove_file(ballast).unwrap();
    world.landed().await;
    worker.stop().await.unwrap();
    world.assert_each_offset_landed_once().await;
    assert_eq!(leftovers(&folder), [""; 0]);
}

use futures::TryStreamExt;
use object_store::{ObjectStoreExt, WriteMultipart};

use super::*;

fn opened() -> (DurableLocal, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (DurableLocal::open(&folder.path().join("a/b")).unwrap(), folder)
}

#[tokio::test]
async fn creates_once_and_overwrites_at_will() {
    let (store, folder) = opened();
    let path = Path::from("x/y/z.json");
    let create = PutOptions::from(PutMode::Create);
    store.put_opts(&path, "one".into(), create.clone()).await.unwrap();
    let again = store.put_opts(&path, "two".into(), create).await.unwrap_err();
    assert!(matches!(again, object_store::Error::AlreadyExists { .. }), "{again}");
    assert_eq!(&store.get(&path).await.unwrap().bytes().await.unwrap()[..], b"one");
    store.put(&path, "three".into()).await.unwrap();
    assert_eq!(&store.get(&path).await.unwrap().bytes().await.unwrap()[..], b"three");
    assert_eq!(
        fs::read_dir(folder.path().join("a/b/x/y")).unwrap().count(),
        1,
        "no staging file is left"
    );
}

#[tokio::test]
async fn uploads_in_parts() {
    let (store, _folder) = opened();
    let path = Path::from("parts/file");
    let upload = store.put_multipart(&path).await.unwrap();
    let mut write = WriteMultipart::new_with_chunk_size(upload, 4);
    write.write(b"hello, world");
    write.finish().await.unwrap();
    assert_eq!(&store.get_range(&path, 7..12).await.unwrap()[..], b"world");
}

#[tokio::test]
async fn lists_in_order_and_without_staging_files() {
    let (store, folder) = opened();
    for name in ["c", "a", "b"] {
        store.put(&Path::from(format!("l/{name}")), "x".into()).await.unwrap();
    }
    fs::write(folder.path().join("a/b/l/a#123"), "left behind by a crash").unwrap();
    let names: Vec<String> = store
        .list(Some(&Path::from("l")))
        .map_ok(|meta| meta.location.to_string())
        .try_collect()
        .await
        .unwrap();
    assert_eq!(names, ["l/a", "l/b", "l/c"]);
    let after: Vec<String> = store
        .list_with_offset(Some(&Path::from("l")), &Path::from("l/a"))
        .map_ok(|meta| meta.location.to_string())
        .try_collect()
        .await
        .unwrap();
    assert_eq!(after, ["l/b", "l/c"]);
}

#[tokio::test]
async fn a_file_in_the_way_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "x").unwrap();
    assert!(DurableLocal::open(&folder.path().join("file")).is_err());
    assert!(DurableLocal::open(&folder.path().join("file/below")).is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn racing_creates_have_one_winner_with_its_bytes() {
    let (store, _folder) = opened();
    let store = std::sync::Arc::new(store);
    for round in 0..20 {
        let path = Path::from(format!("race/{round}"));
        let puts = (0..8).map(|writer| {
            let (store, path) = (store.clone(), path.clone());
            tokio::spawn(async move {
                let payload = PutPayload::from(vec![writer; 1000]);
                store
                    .put_opts(&path, payload, PutMode::Create.into())
                    .await
                    .is_ok()
                    .then_some(writer)
            })
        });
        let winners: Vec<u8> = futures::future::join_all(puts)
            .await
            .into_iter()
            .filter_map(|put| put.unwrap())
            .collect();
        assert_eq!(winners.len(), 1);
        assert_eq!(
            store.get(&path).await.unwrap().bytes().await.unwrap(),
            vec![winners[0]; 1000]
        );
    }
}

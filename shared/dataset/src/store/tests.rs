use anabranch_model::ErrorKind;

use super::*;
use crate::testing::{Fault, Faulty, local, memory};

fn open(url: &str) -> Result<Store> {
    Store::open(url, &BTreeMap::new())
}

#[tokio::test]
async fn a_sound_store_proves_itself_and_stays_clean() {
    let (local, folder) = local();
    for store in [memory(), local] {
        store.prove_create_if_absent().await.unwrap();
        let listing = store
            .objects()
            .list_with_delimiter(Some(&Path::from("probe")))
            .await
            .unwrap();
        assert!(listing.objects.is_empty());
    }
    assert_eq!(
        std::fs::read_dir(folder.path().join("probe")).unwrap().count(),
        0,
        "not even staging files"
    );
}

/// A store that looks before it writes, as those without conditional writes are made to.
#[derive(Debug, Default)]
struct CheckThenAct(InMemory);

impl std::fmt::Display for CheckThenAct {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CheckThenAct")
    }
}

#[async_trait::async_trait]
impl ObjectStore for CheckThenAct {
    async fn put_opts(
        &self,
        path: &Path,
        payload: PutPayload,
        _opts: PutOptions,
    ) -> object_store::Result<object_store::PutResult> {
        if self.0.head(path).await.is_ok() {
            return Err(object_store::Error::AlreadyExists {
                path: path.to_string(),
                source: "there".into(),
            });
        }
        tokio::task::yield_now().await;
        self.0.put(path, payload).await
    }
    async fn put_multipart_opts(
        &self,
        path: &Path,
        opts: object_store::PutMultipartOptions,
    ) -> object_store::Result<Box<dyn object_store::MultipartUpload>> {
        self.0.put_multipart_opts(path, opts).await
    }
    async fn get_opts(
        &self,
        path: &Path,
        options: object_store::GetOptions,
    ) -> object_store::Result<object_store::GetResult> {
        self.0.get_opts(path, options).await
    }
    fn delete_stream(
        &self,
        paths: futures::stream::BoxStream<'static, object_store::Result<Path>>,
    ) -> futures::stream::BoxStream<'static, object_store::Result<Path>> {
        self.0.delete_stream(paths)
    }
    fn list(
        &self,
        prefix: Option<&Path>,
    ) -> futures::stream::BoxStream<'static, object_store::Result<object_store::ObjectMeta>> {
        self.0.list(prefix)
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<object_store::ListResult> {
        self.0.list_with_delimiter(prefix).await
    }
    async fn copy_opts(&self, from: &Path, to: &Path, options: object_store::CopyOptions) -> object_store::Result<()> {
        self.0.copy_opts(from, to, options).await
    }
}

#[tokio::test]
async fn a_store_that_looks_before_it_writes_is_found_out() {
    let store = Store::with_objects("memory://", Arc::new(CheckThenAct::default()));
    let error = store.prove_create_if_absent().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("must not be used"), "{error}");
}

/// The winner's put was repeated by the client, since its answer was lost; so nobody was told that it won.
#[tokio::test]
async fn a_race_that_nobody_seems_to_win_is_run_again() {
    let (faulty, store) = Faulty::store();
    // Whoever comes first.
    faulty.next_put("probe", Fault::Repeated);
    store.prove_create_if_absent().await.unwrap();
    assert_eq!(faulty.outstanding(), 0);
}

#[tokio::test]
async fn create_tells_ours_from_theirs() {
    for fault in [
        None,
        Some(Fault::Lost),
        Some(Fault::DoneButUnclear),
        Some(Fault::Repeated),
        Some(Fault::Late),
    ] {
        let (faulty, store) = Faulty::store();
        let path = Path::from("publications/1.json");
        if let Some(fault) = fault {
            faulty.next_put("publications", fault);
        }
        assert!(store.create(&path, "ours".into()).await.unwrap(), "{fault:?}");
        assert!(!store.create(&path, "theirs".into()).await.unwrap(), "{fault:?}");
        assert_eq!(
            store.read(&path).await.unwrap().as_deref(),
            Some(b"ours".as_slice()),
            "{fault:?}"
        );
        assert_eq!(faulty.outstanding(), 0);
    }
}

#[tokio::test]
async fn a_conflict_with_another_request_is_no_refusal() {
    let (faulty, store) = Faulty::store();
    let (path, bytes) = (Path::from("here"), Bytes::from_static(b"bytes"));
    faulty.next_put("here", Fault::Busy);
    faulty.next_put("here", Fault::Busy);
    store.put(&path, bytes.clone()).await.unwrap();
    assert_eq!(faulty.outstanding(), 0);
    assert_eq!(store.read(&path).await.unwrap(), Some(bytes.clone()));

    (0..CREATE_ATTEMPTS).for_each(|_| faulty.next_put("here", Fault::Busy));
    store.put(&path, bytes).await.unwrap_err();
}

#[test]
fn urls_that_are_not_understood_say_what_to_write() {
    for (url, hint) in [
        ("/var/lib", "file:///"),
        ("file://relative", "three slashes"),
        ("s3://", "s3://bucket"),
        ("gs://b", "s3://"),
    ] {
        let error = open(url).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains(hint), "{error}");
    }
    let unknown = BTreeMap::from([("aws_endpiont".to_owned(), "x".to_owned())]);
    assert!(
        Store::open("s3://bucket/prefix", &unknown)
            .unwrap_err()
            .to_string()
            .contains("aws_endpiont")
    );
}

#[test]
fn s3_opens_with_options_and_a_plain_endpoint() {
    let options = [
        ("aws_endpoint", "http://localhost:9000"),
        ("aws_region", "us-east-1"),
        ("aws_access_key_id", "k"),
        ("aws_secret_access_key", "s"),
    ];
    let options = options.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let store = Store::open("s3://bucket/some/prefix/", &options.into()).unwrap();
    assert!(
        store.objects().to_string().contains("some/prefix"),
        "{}",
        store.objects()
    );
}

#[tokio::test]
async fn a_folder_with_odd_characters_works() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&format!("file://{}/my%20data+100%25", folder.path().display())).unwrap();
    assert!(store.create(&Path::from("a/b"), "x".into()).await.unwrap());
    assert!(folder.path().join("my data+100%/a/b").is_file());
}

#[test]
fn of_a_servers_answer_only_what_people_need_is_told() {
    let long = "The operation lacked the necessary privileges to complete for path x: Error performing PUT http://h/b/x in 6ms - \
                Server returned non-2xx status code: 403 Forbidden: <?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error>\
                <Code>SignatureDoesNotMatch</Code><Message>Check your key.</Message><StringToSign>AWS4</StringToSign></Error>";
    assert_eq!(answer_of(long), "403 Forbidden: SignatureDoesNotMatch: Check your key.");
    assert_eq!(answer_of("connection refused"), "connection refused");
}

use anabranch_dataset::Lease;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// Whatever is asked of it, it has just done, by a clock that is `ahead` of ours: an object store, or a service. Returns its address.
async fn out_of_time(ahead: chrono::Duration) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, ahead));
        }
    });
    format!("http://{address}")
}

async fn answer(stream: TcpStream, ahead: chrono::Duration) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut head, mut body_bytes) = (String::new(), 0);
        while !head.ends_with("\r\n\r\n") {
            let begins = head.len();
            if stream.read_line(&mut head).await? == 0 {
                return Ok(());
            }
            let line = head[begins..].to_ascii_lowercase();
            if let Some(length) = line.strip_prefix("content-length:") {
                body_bytes = length.trim().parse().expect("a length is a number");
            }
        }
        stream.read_exact(&mut vec![0; body_bytes]).await?;
        let now = (Utc::now() + ahead).format("%a, %d %b %Y %H:%M:%S GMT");
        let length = if head.starts_with("HEAD") { 2 } else { 0 };
        let said = format!(
            "HTTP/1.1 200 OK\r\ndate: {now}\r\nlast-modified: {now}\r\netag: \"e\"\r\ncontent-length: {length}\r\n\r\n"
        );
        stream.get_mut().write_all(said.as_bytes()).await?;
    }
}

#[tokio::test]
async fn a_clock_that_is_off_is_noticed() {
    let minutes = chrono::Duration::minutes;
    for (ahead, state) in [
        (minutes(0), State::Ok),
        (minutes(7), State::Warn),
        (minutes(-7), State::Warn),
    ] {
        let address = out_of_time(ahead).await;
        let options = [
            ("aws_endpoint", address.as_str()),
            ("aws_allow_http", "true"),
            ("aws_access_key_id", "k"),
            ("aws_secret_access_key", "s"),
            ("aws_region", "r"),
        ];
        let options = options.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let store = Store::open("s3://bucket/x", &options.into()).expect("the settings are in order");
        let of_store = clock(&store).await;
        let lease = Lease {
            kind: "batch".into(),
            id: "b".into(),
            address,
            facts: serde_json::Value::Null,
            ttl: Duration::from_secs(10),
        };
        let found = VersionedLease { lease, version: None };
        let of_service = service(&reqwest::Client::new(), "batch", &found).await;
        for finding in [of_store, of_service] {
            assert_eq!(finding.state, state, "{ahead}: {finding:?}");
            let is_told = |seconds: i64| finding.found.contains(&format!("{seconds}"));
            // The clock may be read across the turn of a second.
            assert!(state == State::Ok || (417..=421).any(is_told), "{ahead}: {finding:?}");
        }
    }
}

#[test]
fn a_certificate_is_warned_of_before_it_ends() {
    let now = DateTime::from_timestamp(1_800_000_000, 0).expect("a time");
    let state = |hours: i64, setting| {
        let (at, path) = (now + chrono::Duration::hours(hours), PathBuf::from("a.pem"));
        ends_soon(&Expiry { setting, path, at }, now).map(|finding| (finding.state, finding.advice))
    };
    assert_eq!(state(24 * 8, "cert"), None);
    let (warned, advice) = state(24 * 6, "cert").expect("it is said");
    assert_eq!(warned, State::Warn);
    assert!(advice.is_some_and(|advice| advice.contains("renew it")));
    let (failed, advice) = state(-1, "ca").expect("it is said");
    assert_eq!(failed, State::Fail);
    assert!(advice.is_some_and(|advice| advice.contains("restart the services")));
}

#[test]
fn a_mix_of_versions_is_told_with_who_has_which() {
    let of = |pairs: &[(&str, &[&str])]| -> BTreeMap<String, Vec<String>> {
        let named = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
        pairs
            .iter()
            .map(|(version, ids)| ((*version).to_owned(), named(ids)))
            .collect()
    };
    let own = env!("CARGO_PKG_VERSION");
    assert_eq!(compared(&of(&[])), None);
    let same = compared(&of(&[(own, &["speed-1", "serve-1"])])).expect("there are services");
    assert_eq!((same.state, same.advice), (State::Ok, None));
    let other = compared(&of(&[("0.0.1", &["speed-1"])])).expect("there are services");
    assert!(other.state == State::Warn && other.found.contains(own), "{other:?}");
    let mix = compared(&of(&[("0.0.1", &["speed-1"]), (own, &["batch-1", "serve-1"])])).expect("there are services");
    assert_eq!(mix.found, format!("0.0.1: speed-1; {own}: batch-1, serve-1"));
    assert!(
        mix.advice
            .is_some_and(|advice| advice.contains("restart the older ones"))
    );
}

#[test]
fn each_trouble_of_the_store_has_its_own_advice() {
    let no_bucket = Error::NoBucket {
        url: "s3://b".into(),
        answer: "404".into(),
    };
    let refused = Error::Credentials {
        url: "s3://b".into(),
        answer: "403".into(),
    };
    let not_atomic = Error::NotAtomic {
        url: "s3://b".into(),
        reason: "2 of 16 racing puts won".into(),
    };
    assert!(advice("s3://b", &no_bucket).contains("create the bucket"));
    assert!(advice("s3://b", &refused).contains("credentials"));
    assert!(advice("s3://b", &not_atomic).contains("atomic conditional writes"));
    let other = Error::Invalid("away".into());
    assert!(advice("s3://b", &other).contains("endpoint"));
    assert!(advice("file:///data", &other).contains("room on the disk"));
}

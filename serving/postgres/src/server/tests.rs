use std::collections::BTreeMap;
use std::time::Duration;

use anabranch_access::{Access, Failures, NewToken, Role, Tokens, ViewPatterns};
use anabranch_dataset::Store;
use anabranch_runtime::Settings;
use anabranch_testkit::fuzz;
use bytes::{BufMut, BytesMut};
use rand::RngCore;
use tokio::io::AsyncReadExt;

use super::*;
use crate::testing::{TestEngine, serve, serve_engine};

/// Far more than anything here takes.
const LONG: Duration = Duration::from_secs(60);

/// A client that speaks the protocol as it is written.
struct Client(TcpStream);

impl Client {
    async fn connect(address: SocketAddr) -> Self {
        Self(TcpStream::connect(address).await.unwrap())
    }

    /// A client that is let in.
    async fn begun(address: SocketAddr) -> (Self, i32, Vec<u8>) {
        let mut client = Self::connect(address).await;
        client
            .0
            .write_all(&startup(3 << 16, b"user\0me\0application_name\0test\0\0"))
            .await
            .unwrap();
        let (mut process, mut secret) = (0, Vec::new());
        loop {
            let (tag, body) = client.read().await.unwrap();
            match tag {
                b'K' => {
                    process = i32::from_be_bytes(body[..4].try_into().unwrap());
                    secret = body[4..].to_vec();
                }
                b'Z' => return (client, process, secret),
                b'R' | b'S' => {}
                other => panic!("unexpected {} {body:?}", other as char),
            }
        }
    }

    /// The next message; `None` at the end of the stream.
    async fn read(&mut self) -> Option<(u8, Vec<u8>)> {
        let read = async {
            let mut head = [0; 5];
            self.0.read_exact(&mut head).await.ok()?;
            let length = i32::from_be_bytes(head[1..].try_into().unwrap()) as usize;
            let mut body = vec![0; length - 4];
            self.0.read_exact(&mut body).await.ok()?;
            Some((head[0], body))
        };
        tokio::time::timeout(LONG, read).await.expect("the server answers")
    }

    async fn send(&mut self, messages: &[(u8, &[u8])]) {
        let mut out = BytesMut::new();
        for (tag, body) in messages {
            out.put_u8(*tag);
            out.put_i32(body.len() as i32 + 4);
            out.put_slice(body);
        }
        // A server that has closed the connection says why to whoever reads.
        let _ = self.0.write_all(&out).await;
    }

    /// Types of the messages up to ReadyForQuery, and what error codes were among them.
    async fn answers(&mut self) -> (String, Vec<String>) {
        let (mut tags, mut codes) = (String::new(), Vec::new());
        while let Some((tag, body)) = self.read().await {
            tags.push(tag as char);
            if tag == b'E' {
                let fields = String::from_utf8_lossy(&body).into_owned();
                codes.extend(
                    fields
                        .split('\0')
                        .find_map(|field| field.strip_prefix('C').map(str::to_owned)),
                );
            }
            if tag == b'Z' {
                break;
            }
        }
        (tags, codes)
    }

    /// The first column of the rows that a script gives; codes of errors and warnings among them.
    async fn told(&mut self, sql: &str) -> Vec<String> {
        self.send(&[(b'Q', format!("{sql}\0").as_bytes())]).await;
        let mut told = Vec::new();
        loop {
            let (tag, body) = self.read().await.unwrap();
            match tag {
                b'D' => {
                    let length = i32::from_be_bytes(body[2..6].try_into().unwrap()) as usize;
                    told.push(String::from_utf8(body[6..6 + length].to_vec()).unwrap());
                }
                b'E' | b'N' => {
                    let fields = String::from_utf8_lossy(&body).into_owned();
                    let code = fields.split('\0').find_map(|field| field.strip_prefix('C'));
                    told.push(code.unwrap().to_owned());
                }
                b'Z' => return told,
                _ => {}
            }
        }
    }

    async fn simple(&mut self, sql: &str) -> (String, Vec<String>) {
        self.send(&[(b'Q', format!("{sql}\0").as_bytes())]).await;
        self.answers().await
    }
}

fn startup(code: i32, rest: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    out.put_i32(8 + rest.len() as i32);
    out.put_i32(code);
    out.put_slice(rest);
    out.to_vec()
}

/// Reads to the end of the stream, or finds that the server still waits.
async fn drained(mut client: Client) {
    client.0.shutdown().await.ok();
    let mut rest = Vec::new();
    let read = tokio::time::timeout(LONG, client.0.read_to_end(&mut rest)).await;
    assert!(
        read.is_ok(),
        "the connection is closed once the client has nothing more to say"
    );
}

async fn still_answers(address: SocketAddr) {
    let (mut client, ..) = Client::begun(address).await;
    let (tags, codes) = client.simple("SELECT channel, edits FROM totals").await;
    assert_eq!((tags.as_str(), codes.len()), ("TDDDCZ", 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_bytes_end_in_an_error_or_a_closed_connection() {
    let (address, _running) = serve().await;
    let mut random = fuzz::random(7);
    for round in 0..fuzz::cases(400) as usize {
        let mut client = Client::connect(address).await;
        let mut bytes = vec![0; (random.next_u32() % 200) as usize];
        random.fill_bytes(&mut bytes);
        if round % 2 == 0 && bytes.len() >= 8 {
            // As if it were a session, or a request for encryption or cancelling.
            let codes = [
                3_i32 << 16,
                (3 << 16) | 9999,
                80_877_102,
                80_877_103,
                80_877_104,
                2 << 16,
            ];
            let (length, code) = (bytes.len() as i32, codes[round / 2 % codes.len()]);
            bytes[..4].copy_from_slice(&length.to_be_bytes());
            bytes[4..8].copy_from_slice(&code.to_be_bytes());
        }
        client.0.write_all(&bytes).await.unwrap();
        drained(client).await;
    }
    still_answers(address).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_messages_end_in_an_error_or_a_closed_connection() {
    let (address, _running) = serve().await;
    let mut random = fuzz::random(8);
    let valid: [&[u8]; 7] = [
        b"\0SELECT edits FROM totals WHERE channel = $1\0\0\0",
        b"\0\0\0\0\0\x01\0\0\0\x03#en\0\0",
        b"S\0",
        b"P\0",
        b"\0\0\0\0\0",
        b"SELECT 1; SHOW all; BEGIN; SELECT * FROM nothing\0",
        b"",
    ];
    for _ in 0..fuzz::cases(300) {
        let (mut client, ..) = Client::begun(address).await;
        for _ in 0..random.next_u32() % 6 + 1 {
            let tag = b"QPBDECHSXdcfFpA"[(random.next_u32() % 15) as usize];
            let mut body = valid[(random.next_u32() % 7) as usize].to_vec();
            match random.next_u32() % 4 {
                0 => body.truncate(random.next_u32() as usize % (body.len() + 1)),
                1 => {
                    for _ in 0..3 {
                        let at = random.next_u32() as usize;
                        if let Some(byte) = body.get_mut(at % 64) {
                            *byte = random.next_u32() as u8;
                        }
                    }
                }
                2 => random.fill_bytes(&mut body),
                _ => {}
            }
            client.send(&[(tag, &body)]).await;
        }
        drained(client).await;
    }
    still_answers(address).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lengths_that_lie_close_the_connection() {
    let (address, _running) = serve().await;
    for length in [i32::MIN, -1, 0, 3, 5_000_000, i32::MAX] {
        let (mut client, ..) = Client::begun(address).await;
        let mut message = vec![b'Q'];
        message.extend(length.to_be_bytes());
        client.0.write_all(&message).await.unwrap();
        let (tag, body) = client.read().await.unwrap();
        assert!(
            tag == b'E' && body.windows(5).any(|field| field == b"08P01"),
            "{length}"
        );
        assert_eq!(client.read().await, None, "{length}: closed");
    }
    for length in [0_i32, 7, 10_001, i32::MAX, -5] {
        let mut client = Client::connect(address).await;
        client.0.write_all(&length.to_be_bytes()).await.unwrap();
        let (tag, _) = client.read().await.unwrap();
        assert_eq!(tag, b'E', "{length}");
        assert_eq!(client.read().await, None, "{length}: closed");
    }
    still_answers(address).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_extended_protocol_goes_on_after_an_error() {
    let (address, _running) = serve().await;
    let (mut client, ..) = Client::begun(address).await;
    let parse: (u8, &[u8]) = (b'P', b"s\0SELECT edits FROM totals WHERE channel = $1\0\0\0");
    let bind: (u8, &[u8]) = (b'B', b"\0s\0\0\0\0\x01\0\0\0\x03#en\0\x01\0\x01");
    client
        .send(&[
            parse,
            (b'D', b"Ss\0"),
            bind,
            (b'D', b"P\0"),
            (b'E', b"\0\0\0\0\0"),
            (b'S', b""),
        ])
        .await;
    assert_eq!(client.answers().await, ("1tT2TDCZ".into(), vec![]));
    // What follows the error is skipped until Sync.
    client
        .send(&[
            (b'D', b"Snone\0"),
            bind,
            (b'E', b"\0\0\0\0\0"),
            (b'S', b""),
            bind,
            (b'E', b"\0\0\0\0\0"),
            (b'S', b""),
        ])
        .await;
    assert_eq!(client.answers().await, ("EZ".into(), vec!["26000".into()]));
    assert_eq!(client.answers().await, ("2DCZ".into(), vec![]));
    // In a transaction a portal keeps its place.
    client.simple("BEGIN").await;
    let all: (u8, &[u8]) = (b'P', b"a\0SELECT edits FROM totals\0\0\0");
    let two: (u8, &[u8]) = (b'E', b"p\0\0\0\0\x02");
    client
        .send(&[all, (b'B', b"p\0a\0\0\0\0\0\0\0"), two, (b'S', b""), two, (b'S', b"")])
        .await;
    assert_eq!(client.answers().await, ("12DDsZ".into(), vec![]));
    assert_eq!(client.answers().await, ("DCZ".into(), vec![]));
}

/// Planning goes down a level for each operator: on a stack of ordinary size some hundreds ended the process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_chain_of_operators_ends_nobody() {
    let (address, _running) = serve().await;
    let (mut client, ..) = Client::begun(address).await;
    let chain = |item: &str, by: &str| vec![item; 1_000].join(by);
    for sql in [
        format!("SELECT {}", chain("1", "+")),
        format!("SELECT {}", chain("TRUE", " AND ")),
        format!(
            "SELECT relname FROM pg_class WHERE {}",
            chain("relname = 'totals'", " OR ")
        ),
    ] {
        let (tags, codes) = client.simple(&sql).await;
        // Answered, or refused as too complex.
        let is_answered = tags.starts_with("TD") && codes.is_empty();
        assert!(is_answered || codes == ["54001"], "{tags} {codes:?}: {sql:.60}");
    }
    still_answers(address).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_fail_as_clients_expect() {
    let (address, _running) = serve().await;
    let (mut client, ..) = Client::begun(address).await;
    assert_eq!(client.simple("DELETE FROM totals").await.1, ["25006"]);
    assert_eq!(client.simple("").await.0, "IZ");
    assert_eq!(client.simple("BEGIN; SELECT nonsense FROM totals").await.1, ["22023"]);
    assert_eq!(client.simple("SELECT 1").await.1, ["25P02"]);
    assert_eq!(client.simple("ROLLBACK").await, ("CZ".into(), vec![]));
    assert_eq!(client.simple("SELECT 1; SELECT 2").await.0, "TDCTDCZ");
}

/// Several statements in one message are one transaction, as with PostgreSQL.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_end_with_their_transaction() {
    const SHOW: &str = "SHOW anabranch.require";
    let (address, _running) = serve().await;
    let (mut client, ..) = Client::begun(address).await;
    let local = "SET LOCAL anabranch.require = 'exact'";
    assert_eq!(client.told(&format!("{local}; {SHOW}")).await, ["exact"]);
    assert_eq!(client.told(SHOW).await, [""]);
    assert_eq!(client.told(local).await, ["25P01"], "alone it is a warning");
    assert_eq!(client.told(&format!("BEGIN; {local}; {SHOW}")).await, ["exact"]);
    assert_eq!(client.told(SHOW).await, ["exact"], "the transaction is open");
    assert_eq!(client.told("DISCARD ALL").await, ["25001"]);
    assert_eq!(client.told("COMMIT").await, [""; 0]);
    assert_eq!(client.told(SHOW).await, [""]);
    let failing = "SET anabranch.require = 'exact'; SELECT nonsense FROM totals";
    assert_eq!(client.told(failing).await, ["22023"]);
    assert_eq!(client.told(SHOW).await, [""], "what failed has set nothing");
    client
        .told("BEGIN; SET anabranch.require = 'exact'; SELECT nonsense FROM totals")
        .await;
    assert_eq!(client.told("COMMIT").await, [""; 0]);
    assert_eq!(client.told(SHOW).await, [""], "a failed transaction is rolled back");
    assert_eq!(
        client
            .told(&format!(
                "BEGIN; SET anabranch.require = 'exact'; COMMIT; {local}; {SHOW}"
            ))
            .await,
        ["exact"]
    );
    assert_eq!(client.told(SHOW).await, ["exact"]);
    assert_eq!(client.told(&format!("RESET anabranch.require; {SHOW}")).await, [""]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_is_cancelled_or_times_out() {
    let (address, _running) = serve().await;
    let (mut client, process, secret) = Client::begun(address).await;
    client.send(&[(b'Q', b"SELECT 'never' FROM totals\0")]).await;
    let mut request = process.to_be_bytes().to_vec();
    request.extend(&secret);
    // The request may come before the statement has begun: then it is for nothing, and another is needed.
    let cancelling = tokio::spawn(async move {
        loop {
            let mut other = Client::connect(address).await;
            other.0.write_all(&startup(80_877_102, &request)).await.unwrap();
            drained(other).await;
        }
    });
    let answers = client.answers().await;
    cancelling.abort();
    assert_eq!(answers.1, ["57014"]);
    let (mut client, ..) = Client::begun(address).await;
    client.simple("SET statement_timeout = 20").await;
    assert_eq!(client.simple("SELECT 'never' FROM totals").await.1, ["57014"]);
    assert_eq!(client.simple("SELECT edits FROM totals").await.0, "TDDDCZ");
}

/// An answer without an end: only one that is sent as it is computed, and stopped with its reader, lets this end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_hangs_up_stops_the_query() {
    let engine = TestEngine::new();
    let dropped = engine.dropped.clone();
    let (address, _running) = serve_engine(engine).await;
    let (mut client, ..) = Client::begun(address).await;
    client.send(&[(b'Q', b"SELECT 'endless', edits FROM totals\0")]).await;
    for _ in 0..10_000 {
        let (tag, _) = client.read().await.unwrap();
        assert!(matches!(tag, b'T' | b'D'));
    }
    drop(client);
    tokio::time::timeout(LONG, dropped.cancelled())
        .await
        .expect("the query is given up");
    still_answers(address).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_says_goodbye() {
    let (address, running) = serve().await;
    let (mut client, ..) = Client::begun(address).await;
    running.cancel();
    let (tag, body) = client.read().await.unwrap();
    assert!(tag == b'E' && body.windows(5).any(|field| field == b"57P01"));
    assert_eq!(client.read().await, None);
}

#[test]
fn options_are_settings() {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        options("-c statement_timeout=5s --search_path=public -canabranch.require=exact -x"),
        [
            pair("statement_timeout", "5s"),
            pair("search_path", "public"),
            pair("anabranch.require", "exact")
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_ends_with_the_token_that_it_came_in_by() {
    for sql in [None, Some("SELECT channel FROM totals WHERE channel <> 'endless'")] {
        let store = Store::open("memory://", &BTreeMap::new()).unwrap();
        let settings = Settings::parse("[access]\nmode = 'tokens'\n", "test", []).unwrap();
        let access = Access::start(&settings, &store).await.unwrap();
        let new = NewToken {
            name: Some("ann".to_owned()),
            role: Role::Read,
            views: ViewPatterns::all(),
            expires_at: None,
            created_by: "test".to_owned(),
        };
        Tokens::new(&store).create(new).await.unwrap();
        access.refresh().await.unwrap();
        let session = Session::new(access.principal_of("ann").unwrap(), "ann");
        let engine = TestEngine::new();
        let shared = Arc::new(Shared {
            catalog: Arc::new(Catalog::new(engine.clone()).unwrap()),
            engine,
            access: access.clone(),
            failures: Failures::new(60),
            tls: None,
            connections: Arc::default(),
            shutdown: Shutdown::new(),
            ended: CancellationToken::new(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = Client::connect(listener.local_addr().unwrap()).await;
        let (socket, _) = listener.accept().await.unwrap();
        let named = shared.connections.enter(false);
        tokio::spawn(connection::run(socket, shared, session, named));
        assert!(client.answers().await.0.ends_with('Z'), "it is let in");
        if let Some(sql) = sql {
            client.send(&[(b'Q', format!("{sql}\0").as_bytes())]).await;
            assert_eq!(client.read().await.unwrap().0, b'T', "{sql} is being answered");
        }
        Tokens::new(&store).revoke("ann", "test").await.unwrap();
        access.refresh().await.unwrap();
        let (tags, codes) = client.answers().await;
        assert!(tags.ends_with('E'), "{sql:?}: the error is the last message: {tags}");
        assert_eq!(codes, ["28000"], "{sql:?}");
    }
}

use super::*;

fn parse(text: &str) -> Result<Settings, Error> {
    Settings::parse(text, "anabranch.toml", [])
}

#[test]
fn an_empty_file_is_the_defaults() {
    assert_eq!(parse("").unwrap(), Settings::default());
}

#[test]
fn the_defaults_are_what_the_documentation_says() {
    insta_like(
        &toml::to_string(&Settings::default()).unwrap(),
        r#"[storage]
url = "file:.anabranch/store"

[storage.options]

[kafka]

[ingest_log]
dir = ".anabranch/log"

[landing]
max_age = "5s"
max_bytes = "64MiB"
compression = "zstd"

[speed]
listen = "127.0.0.1:8081"
state_budget = "1GiB"
decoders = 0
view_bolts = 0
channel_capacity = 8
micro_batch_records = 32768
micro_batch_bytes = "8MiB"
publication_poll = "500ms"

[batch]
listen = "127.0.0.1:8082"
time_zone = "UTC"
mode = "full"
full_every = 24
on_diff = "publish"
threads = 0
memory_budget = "2GiB"
poll = "1s"

[maintenance]
enabled = true
every = "1m"
compact_min_files = 8
target_file_bytes = "128MiB"
vacuum_every = "1h"
vacuum_after = "1day"
log_retention = "7days"
expire_every = "1day"
keep_publications = 10
keep_runs = 200

[serving]
listen = "127.0.0.1:8080"
postgres_connections = 100
query_timeout = "30s"
max_queries = 64
max_waiting_queries = 1024
query_memory = "1GiB"
total_query_memory = "4GiB"
state_memory = "2GiB"
poll = "500ms"
drain = "0s"
max_ingest_body = "256MiB"
live_max_rows = 10000
live_max_readers = 1000

[access]
mode = "open"
insecure = false
refresh = "2s"
session = "12h"
open_metrics = false
requests_per_second = 0
failures_per_minute = 60
audit = "store"

[tls]

[oidc]
name_claim = "sub"
role_claim = "anabranch_role"
views_claim = "anabranch_views"

[oidc.roles]

[telemetry]
log = "info"
format = "text"
trace_ratio = 0.1
"#,
    );
}

fn insta_like(actual: &str, expected: &str) {
    assert_eq!(
        actual, expected,
        "defaults changed: mend the field's documentation and this snapshot together"
    );
}

#[test]
fn an_unknown_key_names_its_line_and_the_nearest_key() {
    let error = parse("[landing]\nmax_agee = \"5s\"\n").unwrap_err().to_string();
    assert_eq!(
        error,
        "anabranch.toml:2: unknown key `max_agee` in [landing]; did you mean `max_age`?"
    );
    let error = parse("[sped]\nlisten = \"x\"\n").unwrap_err().to_string();
    assert_eq!(
        error,
        "anabranch.toml:1: unknown key `sped` at the top level; did you mean `speed`?"
    );
}

#[test]
fn variables_are_expanded_and_overrides_win() {
    let environment = [
        ("HOST", "broker:9092"),
        ("ANABRANCH__LANDING__MAX_AGE", "250ms"),
        ("ANABRANCH__SPEED__DECODERS", "3"),
        ("ANABRANCH__KAFKA__GROUP_INSTANCE_ID", "a"),
    ];
    let settings = Settings::parse(
        "[kafka]\n\"bootstrap.servers\" = \"${HOST}\"\nsession.timeout.ms = 6000\n",
        "here",
        environment.map(|(k, v)| (k.to_owned(), v.to_owned())),
    )
    .unwrap();
    assert_eq!(settings.kafka["bootstrap.servers"], "broker:9092");
    assert_eq!(settings.kafka["session.timeout.ms"], "6000");
    assert_eq!(settings.kafka["group.instance.id"], "a");
    assert_eq!(*settings.landing.max_age, Duration::from_millis(250));
    assert_eq!(settings.speed.decoders, 3);
}

#[test]
fn a_missing_variable_and_bad_values_are_refused() {
    let error = parse("[kafka]\n\"sasl.password\" = \"${NOT_SET}\"")
        .unwrap_err()
        .to_string();
    assert!(error.contains("`NOT_SET` is not set"), "{error}");
    let error = parse("[landing]\nmax_age = \"soon\"").unwrap_err().to_string();
    assert!(error.contains("`soon` is not a duration"), "{error}");
    let error = parse("[landing]\nmax_bytes = \"many\"").unwrap_err().to_string();
    assert!(error.contains("is not a size"), "{error}");
    let error = parse("[speed]\nchannel_capacity = 0").unwrap_err().to_string();
    assert!(error.contains("at least 1"), "{error}");
    let error = parse("[storage]\nurl = \"gs://x\"").unwrap_err().to_string();
    assert!(error.contains("must begin with"), "{error}");
}

#[test]
fn an_unknown_override_is_refused() {
    let environment = [("ANABRANCH__SPEED__LISTENN".to_owned(), "x".to_owned())];
    let error = Settings::parse("", "here", environment).unwrap_err().to_string();
    assert_eq!(
        error,
        "ANABRANCH__SPEED__LISTENN: unknown key `listenn` in [speed]; did you mean `listen`?"
    );
}

#[test]
fn secrets_are_not_shown() {
    let settings = parse("[kafka]\n\"sasl.password\" = \"hunter2\"\n\"client.id\" = \"me\"").unwrap();
    let shown = format!("{settings:?}");
    assert!(!shown.contains("hunter2") && shown.contains("\"me\""), "{shown}");
}

#[test]
fn relative_places_lie_below_the_configuration_folder() {
    let mut settings = Settings::default();
    settings.resolve(Path::new("/etc/anabranch"));
    assert_eq!(settings.storage.url, "file:///etc/anabranch/.anabranch/store");
    assert_eq!(settings.ingest_log.dir, Path::new("/etc/anabranch/.anabranch/log"));
}

#[test]
fn sizes_read_and_print_alike() {
    for (text, bytes) in [
        ("64MiB", 64 << 20),
        ("1.5 KiB", 1536),
        ("2kb", 2000),
        ("7", 7),
        ("3b", 3),
    ] {
        assert_eq!(text.parse::<ByteSize>().unwrap().get(), bytes, "{text}");
    }
    for size in [ByteSize(0), ByteSize(1000), ByteSize::mib(3), ByteSize(1 << 30)] {
        assert_eq!(size.to_string().parse::<ByteSize>().unwrap(), size);
    }
}

#[test]
fn maintenance_keeps_what_readers_may_need() {
    for (text, expected) in [
        (
            "vacuum_after = '10s'",
            "`maintenance.vacuum_after` is 10s, but must be at least 1m",
        ),
        (
            "vacuum_after = '8d'",
            "`maintenance.vacuum_after` is 8days, but must be at most 7days",
        ),
        (
            "log_retention = '59m'",
            "`maintenance.log_retention` is 59m, but must be at least 1h",
        ),
        (
            "vacuum_after = '5d'\nlog_retention = '4d'",
            "`maintenance.log_retention` is 4days, but must be at least `vacuum_after`, which is 5days",
        ),
        (
            "compact_min_files = 1",
            "`maintenance.compact_min_files` is 1, but must be at least 2",
        ),
        (
            "keep_publications = 0",
            "`maintenance.keep_publications` is 0, but must be at least 1",
        ),
    ] {
        let error = parse(&format!("[maintenance]\n{text}")).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
    assert!(parse("[maintenance]\nvacuum_after = '1m'\nlog_retention = '1h'").is_ok());
}

#[test]
fn masked_settings_tell_no_secret() {
    let text = "[kafka]\n\"sasl.password\" = \"hush-1\"\n\"bootstrap.servers\" = \"kafka:9092\"\n[storage.options]\naws_secret_access_key = \"hush-2\"";
    let shown = toml::to_string(&parse(text).unwrap().masked()).unwrap();
    assert!(!shown.contains("hush") && shown.contains("kafka:9092"), "{shown}");
    assert_eq!(shown.matches("***").count(), 2, "{shown}");
}

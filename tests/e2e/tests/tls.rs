//! Kafka by SASL/SCRAM over TLS: needs a client with TLS, which the workspace's normal build has not.
//!
//! ```text
//! cargo test --workspace --features anabranch-e2e/kafka-tls-system --test e2e -- tls::   # with the system's OpenSSL: libssl-dev
//! cargo test -p anabranch-e2e --features kafka-tls -- tls::          # builds OpenSSL
//! ```

#[cfg(not(any(feature = "kafka-tls", feature = "kafka-tls-system")))]
#[test]
fn scram_over_tls() {
    // Not a matter of servers: CI builds and runs it in a step of its own, with ANABRANCH_CI_TLS=1.
    eprintln!("SKIPPED scram_over_tls: built without the feature `kafka-tls` or `kafka-tls-system`");
}

#[cfg(any(feature = "kafka-tls", feature = "kafka-tls-system"))]
#[test]
fn scram_over_tls() {
    secure::scram_over_tls();
}

#[cfg(any(feature = "kafka-tls", feature = "kafka-tls-system"))]
mod secure {
    use anabranch_e2e::dev::acknowledged;
    use anabranch_e2e::{Dev, Site, gate, master};
    use anabranch_testkit::servers::{self, KafkaServer};

    use crate::edits::{Edits, TABLE, views};

    pub fn scram_over_tls() {
        let Some(edits) = Edits::load("scram_over_tls") else {
            return;
        };
        let server = match KafkaServer::provision_and_start_secure() {
            Ok(server) => server,
            Err(reason) => return servers::skip(&reason),
        };
        let _gate = gate::heavy();
        let properties = server.secure().expect("it was started with a secure listener");
        let settings = |changed: &[(&str, Option<&str>)]| {
            let mut properties = properties.clone();
            for (name, value) in changed {
                match value {
                    Some(value) => properties.insert((*name).to_owned(), (*value).to_owned()),
                    None => properties.remove(*name),
                };
            }
            let kafka = properties.into_iter().map(|(k, v)| (k, toml::Value::String(v)));
            let settings = toml::Table::from_iter([("kafka".to_owned(), toml::Value::Table(kafka.collect()))]);
            format!("{settings}\n[landing]\nmax_age = '200ms'")
        };
        let sql = views("connector = 'kafka', topic = 'secure-edits', partitions = 2");
        let mut dev = Dev::start(&sql, &settings(&[]));
        let (half, all) = (edits.half(), edits.lines.len());
        let site = dev.site();
        let args = ["ingest", TABLE, "-", "--config", site.config()];
        let (sent, first) = acknowledged(&site.cli_with_input(&args, &edits.body(0..half)).success());
        assert_eq!(sent, half as u64);
        edits.check("by TLS", dev.http(), half, &first);
        dev.land_and_run(TABLE, &first);
        let second = dev.ingest(TABLE, edits.body(half..all));
        let through = first.into_iter().chain(second).collect();
        edits.check("by TLS, half and half", dev.http(), all, &through);
        dev.wait_landed(TABLE, &through);
        dev.terminate();
        master::read(dev.site(), TABLE).assert_each_offset_once();

        // Whoever lacks the password, the authority or TLS itself is told so, and nothing is produced.
        for (changed, what) in [
            (("sasl.password", Some("wrong")), "the password"),
            (("ssl.ca.location", None), "the authority"),
            (("security.protocol", Some("sasl_plaintext")), "TLS"),
        ] {
            let site = Site::new(
                &sql,
                &settings(&[changed, ("socket.connection.setup.timeout.ms", Some("2000"))]),
            );
            let output = site.cli_with_input(&["ingest", TABLE, "-", "--config", site.config()], &edits.body(0..1));
            let output = output.refused();
            assert!(
                output.stderr.to_lowercase().contains("kafka"),
                "without {what}: {}",
                output.stderr
            );
        }
    }
}

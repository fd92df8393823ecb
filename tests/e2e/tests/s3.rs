//! The same edits with everything durable in an S3-compatible store.

use anabranch_e2e::{Dev, gate, master};
use anabranch_model::TopicOffsets;
use anabranch_testkit::servers;

use crate::edits::{Edits, TABLE, views};

#[test]
fn wikipedia_on_s3() {
    let Some(edits) = Edits::load("wikipedia_on_s3") else {
        return;
    };
    let Some(s3) = servers::s3() else { return };
    let _gate = gate::heavy();
    let mut storage = toml::Table::new();
    let url = format!("{}/e2e-{}", s3.url.trim_end_matches('/'), std::process::id());
    storage.insert("url".into(), url.into());
    let options = s3
        .options
        .iter()
        .map(|(key, value)| (key.clone(), toml::Value::String(value.clone())));
    storage.insert("options".into(), toml::Value::Table(options.collect()));
    let settings = toml::Table::from_iter([("storage".to_owned(), toml::Value::Table(storage))]);
    let mut dev = Dev::start(
        &views("connector = 'log', partitions = 2"),
        &format!("{settings}\n[landing]\nmax_age = '300ms'"),
    );
    let (half, all) = (edits.half(), edits.lines.len());

    let first = dev.ingest(TABLE, edits.body(0..half));
    edits.check("realtime", dev.http(), half, &first);
    dev.land_and_run(TABLE, &first);
    let second = dev.ingest(TABLE, edits.body(half..all));
    let through: TopicOffsets = first.into_iter().chain(second).collect();
    edits.check("half batch, half realtime", dev.http(), all, &through);
    dev.kill9();
    dev.restart();
    edits.check("after kill -9", dev.http(), all, &through);
    dev.land_and_run(TABLE, &through);
    edits.check("all in a batch run", dev.http(), all, &through);
    let landed = master::read(dev.site(), TABLE);
    landed.assert_each_offset_once();
    assert_eq!(landed.counts(), (all, 0));
}

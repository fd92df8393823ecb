//! The Kafka implementation against a real Apache Kafka, where Java and Maven are there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anabranch_log::{KafkaLog, PartitionedLog, conformance};
use anabranch_testkit::servers;
use futures::FutureExt;

fn properties(bootstrap: String) -> BTreeMap<String, String> {
    BTreeMap::from([("bootstrap.servers".to_string(), bootstrap)])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_conforms() {
    let Some(server) = servers::kafka() else { return };
    let properties = properties(server.bootstrap());
    let number = AtomicU32::new(0);
    conformance::all(&|partitions| {
        let topic = format!("conformance-{}", number.fetch_add(1, Ordering::Relaxed));
        let properties = properties.clone();
        async move {
            let log = KafkaLog::connect(&properties, &topic, Some(partitions)).await.expect("connecting");
            Arc::new(log) as Arc<dyn PartitionedLog>
        }
        .boxed()
    })
    .await;
}

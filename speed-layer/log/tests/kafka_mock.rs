//! The Kafka implementation against librdkafka's own mock cluster: the part of the suite that the mock can serve. It keeps
//! a few megabytes per partition, answers no search by time and knows no transactions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anabranch_log::{KafkaLog, PartitionedLog, conformance};
use futures::FutureExt;
use futures::future::BoxFuture;
use rdkafka::mocking::MockCluster;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_mock_cluster_conforms_as_far_as_it_goes() {
    let cluster = MockCluster::new(1).unwrap();
    for partitions in 1..=4 {
        for number in 0..10 {
            cluster
                .create_topic(&format!("mock-{partitions}-{number}"), partitions, 1)
                .unwrap();
        }
    }
    let properties = BTreeMap::from([
        ("bootstrap.servers".to_string(), cluster.bootstrap_servers()),
        ("fetch.wait.max.ms".to_string(), "20".to_string()),
    ]);
    let number = AtomicU32::new(0);
    let factory = |partitions: u32| -> BoxFuture<'_, Arc<dyn PartitionedLog>> {
        let topic = format!("mock-{partitions}-{}", number.fetch_add(1, Ordering::Relaxed));
        let properties = properties.clone();
        async move {
            let log = KafkaLog::connect(&properties, &topic, None).await.expect("connecting");
            Arc::new(log) as Arc<dyn PartitionedLog>
        }
        .boxed()
    };
    conformance::records_come_back_as_they_were(&factory).await;
    conformance::keys_choose_their_partition_as_kafka_does(&factory).await;
    conformance::reads_begin_anywhere_and_keep_to_their_limits(&factory).await;
    conformance::a_waiting_read_wakes_on_append(&factory).await;
    conformance::concurrent_appends_are_all_there_once(&factory).await;
    conformance::a_subscription_delivers_from_where_it_is_started(&factory).await;
    conformance::a_subscription_pauses_and_resumes(&factory).await;
    conformance::a_subscription_refuses_what_it_cannot_deliver(&factory).await;
}

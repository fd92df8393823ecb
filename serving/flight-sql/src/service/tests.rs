//! Strangers' bytes: whatever comes in is answered or refused as the client's own mistake, and the server goes on.

use std::time::Duration;

use anabranch_access::{Failures, Principal};
use anabranch_front::{Cause, Prepared, QueryError, Relation, RelationKind, Running, bound_functions};
use anabranch_model::CoverageMap;
use anabranch_runtime::Shutdown;
use anabranch_testkit::fuzz;
use arrow::array::{ArrayRef, Int64Array, StringArray};
use arrow::ipc::CompressionType;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::{Any, CommandGetPrimaryKeys, CommandGetXdbcTypeInfo, CommandStatementSubstraitPlan};
use arrow_flight::utils::batches_to_flight_data;
use arrow_flight::{Criteria, FlightData};
use async_trait::async_trait;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;
use datafusion::scalar::ScalarValue;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, RngCore};
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use super::*;
use crate::{FlightSqlServer, Options};

/// Far more than anything here takes.
const LONG: Duration = Duration::from_secs(60);

struct TestEngine(SessionContext);

fn refused(error: DataFusionError) -> QueryError {
    QueryError::new(Cause::Invalid, error.strip_backtrace())
}

#[async_trait]
impl QueryEngine for TestEngine {
    fn relations(&self, _: &Principal) -> Vec<Relation> {
        vec![Relation {
            schema: anabranch_front::PUBLIC,
            name: "totals".to_owned(),
            columns: Arc::new(Schema::new(vec![Field::new("edits", DataType::Int64, true)])),
            kind: RelationKind::View,
            definition: None,
        }]
    }

    async fn prepare(&self, sql: &str, _: &Principal) -> Result<Prepared, QueryError> {
        let plan = self.0.state().create_logical_plan(sql).await.map_err(refused)?;
        let count = plan.get_parameter_types().map_err(refused)?.len();
        let schema = Arc::new(plan.schema().as_arrow().clone());
        Ok(Prepared::new(schema, vec![Some(DataType::Int64); count], plan))
    }

    async fn run(
        &self,
        prepared: &Prepared,
        values: Vec<ScalarValue>,
        _: &Demand,
        _: &Principal,
    ) -> Result<Running, QueryError> {
        let plan = prepared.plan::<LogicalPlan>().expect("it was planned here").clone();
        let plan = plan
            .replace_params_with_values(&datafusion::common::ParamValues::from(values))
            .map_err(refused)?;
        let frame = self.0.execute_logical_plan(plan).await.map_err(refused)?;
        let batches = frame.execute_stream().await.map_err(refused)?;
        Ok(Running {
            schema: Arc::clone(&prepared.schema),
            batches: batches.map_err(refused).boxed(),
            coverage: CoverageMap::new(),
        })
    }
}

async fn client() -> (FlightServiceClient<Channel>, Shutdown) {
    let context = SessionContext::new();
    let mut state = context.state();
    bound_functions(&mut state).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = Shutdown::new();
    let server = FlightSqlServer::start(Options {
        listener: listener.into(),
        engine: Arc::new(TestEngine(SessionContext::new_with_state(state))),
        access: Access::open(),
        failures: Failures::new(60),
        shutdown: shutdown.clone(),
    });
    tokio::spawn(server.unwrap().run());
    let channel = Endpoint::from_shared(format!("http://{address}")).unwrap();
    (FlightServiceClient::new(channel.connect().await.unwrap()), shutdown)
}

fn row(value: i64) -> RecordBatch {
    let values: [(&str, ArrayRef); 2] = [
        ("1", Arc::new(Int64Array::from(vec![value]))),
        ("2", Arc::new(StringArray::from(vec!["x"]))),
    ];
    RecordBatch::try_from_iter(values).unwrap()
}

/// A stream as handles hold it.
fn stream(batch: &RecordBatch, compression: Option<CompressionType>) -> Vec<u8> {
    let options = IpcWriteOptions::default().try_with_compression(compression).unwrap();
    let mut writer = StreamWriter::try_new_with_options(Vec::new(), &batch.schema(), options).unwrap();
    writer.write(batch).unwrap();
    writer.into_inner().unwrap()
}

fn handle(sql: &str, values: &[u8]) -> Bytes {
    serde_json::to_vec(&serde_json::json!({"sql": sql, "values": values}))
        .unwrap()
        .into()
}

const WITH_VALUES: &str = "SELECT CAST($1 AS BIGINT) + 1 AS a, CAST($2 AS TEXT) AS b";

/// Commands as clients send them.
fn commands() -> Vec<Vec<u8>> {
    let of = |any: Any| any.encode_to_vec();
    let sql = || "SELECT 1 AS a".to_owned();
    let values = stream(&row(7), None);
    let query = CommandStatementQuery {
        query: sql(),
        transaction_id: None,
    };
    let create = ActionCreatePreparedStatementRequest {
        query: sql(),
        transaction_id: None,
    };
    let prepared = CommandPreparedStatementQuery {
        prepared_statement_handle: handle(WITH_VALUES, &values),
    };
    let update = CommandPreparedStatementUpdate {
        prepared_statement_handle: handle(WITH_VALUES, &values),
    };
    let close = ActionClosePreparedStatementRequest {
        prepared_statement_handle: handle("SELECT 1", &[]),
    };
    let ticket = TicketStatementQuery {
        statement_handle: handle("SELECT 1 AS a", &[]),
    };
    let tables = CommandGetTables {
        catalog: Some("a%".to_owned()),
        db_schema_filter_pattern: Some("%".to_owned()),
        table_name_filter_pattern: Some("t_t%".to_owned()),
        table_types: vec!["VIEW".to_owned()],
        include_schema: true,
    };
    vec![
        of(query.as_any()),
        of(create.as_any()),
        of(prepared.as_any()),
        of(update.as_any()),
        of(close.as_any()),
        of(ticket.as_any()),
        of(tables.as_any()),
        of(CommandGetCatalogs {}.as_any()),
        of(CommandGetDbSchemas::default().as_any()),
        of(CommandGetTableTypes {}.as_any()),
        of(CommandGetSqlInfo { info: vec![0, 1, 500] }.as_any()),
        of(CommandStatementUpdate::default().as_any()),
        of(CommandGetPrimaryKeys::default().as_any()),
        of(CommandGetXdbcTypeInfo::default().as_any()),
        of(CommandStatementSubstraitPlan::default().as_any()),
    ]
}

/// Other bytes, out of these.
fn mutated(bytes: &[u8], random: &mut StdRng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..random.random_range(0..4_u8) {
        let at = random.random_range(0..=bytes.len());
        match random.random_range(0..5_u8) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, random.random()),
            2 => bytes.extend_from_within(at..),
            _ if at < bytes.len() => bytes[at] = *[0, 1, 0x7f, 0x80, 0xff, random.random()].choose(random).unwrap(),
            _ => {}
        }
    }
    bytes
}

fn payload(commands: &[Vec<u8>], random: &mut StdRng) -> Vec<u8> {
    if random.random_ratio(1, 8) {
        let mut bytes = vec![0; random.random_range(0..200)];
        random.fill_bytes(&mut bytes);
        return bytes;
    }
    mutated(commands.choose(random).unwrap(), random)
}

/// Parameters as clients send them, or not quite.
fn put(command: Vec<u8>, random: &mut StdRng) -> Vec<FlightData> {
    let batch = row(random.random());
    let mut data = batches_to_flight_data(&batch.schema(), vec![batch]).unwrap();
    data[0].flight_descriptor = Some(FlightDescriptor::new_cmd(command));
    for message in &mut data {
        if random.random_ratio(1, 3) {
            message.data_header = mutated(&message.data_header, random).into();
        }
        if random.random_ratio(1, 3) {
            message.data_body = mutated(&message.data_body, random).into();
        }
    }
    data
}

/// One call with such bytes, read to its end.
async fn call(
    client: &mut FlightServiceClient<Channel>,
    commands: &[Vec<u8>],
    random: &mut StdRng,
) -> Result<(), Status> {
    let bytes = payload(commands, random);
    let descriptor = FlightDescriptor {
        r#type: random.random_range(-1..4),
        cmd: bytes.clone().into(),
        path: vec!["a".to_owned(); random.random_range(0..2)],
    };
    match random.random_range(0..11_u8) {
        0 | 1 => drain(client.do_get(Ticket::new(bytes)).await?).await,
        2 | 3 => client.get_flight_info(descriptor).await.map(drop),
        4 => client.get_schema(descriptor).await.map(drop),
        5 => {
            let kinds = [
                "CreatePreparedStatement",
                "ClosePreparedStatement",
                "BeginTransaction",
                "CancelQuery",
                "",
            ];
            let r#type = (*kinds.choose(random).unwrap()).to_owned();
            let body = bytes.into();
            drain(client.do_action(Action { r#type, body }).await?).await
        }
        6 | 7 => {
            let data = put(bytes, random);
            drain(client.do_put(futures::stream::iter(data)).await?).await
        }
        8 => {
            let request = HandshakeRequest {
                protocol_version: random.random(),
                payload: bytes.into(),
            };
            drain(client.handshake(futures::stream::iter([request])).await?).await
        }
        9 => {
            drain(
                client
                    .list_flights(Criteria {
                        expression: bytes.into(),
                    })
                    .await?,
            )
            .await
        }
        _ => {
            let data = put(bytes, random);
            drain(client.do_exchange(futures::stream::iter(data)).await?).await
        }
    }
}

async fn drain<T>(answer: Response<Streaming<T>>) -> Result<(), Status> {
    let mut stream = answer.into_inner();
    while stream.message().await?.is_some() {}
    Ok(())
}

#[track_caller]
fn is_the_clients(status: &Status, what: &str) {
    assert!(
        matches!(
            status.code(),
            Code::InvalidArgument
                | Code::NotFound
                | Code::PermissionDenied
                | Code::Unimplemented
                | Code::ResourceExhausted
        ),
        "{what}: {status:?}"
    );
}

async fn still_answers(client: &mut FlightServiceClient<Channel>) {
    let ticket = TicketStatementQuery {
        statement_handle: handle(WITH_VALUES, &stream(&row(41), None)),
    };
    let answer = client
        .do_get(Ticket::new(ticket.as_any().encode_to_vec()))
        .await
        .unwrap();
    drain(answer).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_bytes_are_answered_or_refused_as_the_clients_mistake() {
    let (mut client, _running) = client().await;
    let (commands, mut random) = (commands(), fuzz::random(9));
    let mut answered = 0;
    for case in 0..fuzz::cases(1_500) {
        let called = tokio::time::timeout(LONG, call(&mut client, &commands, &mut random)).await;
        match called.unwrap_or_else(|_| panic!("case {case} hangs")) {
            Ok(()) => answered += 1,
            Err(status) => is_the_clients(&status, &format!("case {case}")),
        }
    }
    assert!(answered > 50, "{answered} answered: they say little");
    still_answers(&mut client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parameters_that_lie_about_their_size_are_refused() {
    let (mut client, _running) = client().await;
    // What would not become smaller is not compressed.
    let text: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(100_000)]));
    let large = RecordBatch::try_from_iter([("1", text)]).unwrap();
    let mut compressed = stream(&large, Some(CompressionType::ZSTD));
    let refused = Handle::read(&handle(WITH_VALUES, &compressed)).unwrap().values();
    is_the_clients(&refused.unwrap_err(), "compressed parameters");
    // As large as no machine: whoever reserves what is said there ends.
    let body = compressed
        .windows(4)
        .position(|bytes| bytes == [0x28, 0xb5, 0x2f, 0xfd]);
    let length = body.expect("zstd says what it is") - 8;
    compressed[length..length + 8].copy_from_slice(&(i64::MAX / 2).to_le_bytes());
    let ticket = CommandPreparedStatementQuery {
        prepared_statement_handle: handle(WITH_VALUES, &compressed),
    };
    let ticket = Ticket::new(ticket.as_any().encode_to_vec());
    is_the_clients(&client.do_get(ticket).await.unwrap_err(), "a bomb in a handle");

    let options = IpcWriteOptions::default()
        .try_with_compression(Some(CompressionType::ZSTD))
        .unwrap();
    let encoder = FlightDataEncoderBuilder::new().with_options(options);
    let descriptor = CommandPreparedStatementQuery {
        prepared_statement_handle: handle(WITH_VALUES, &[]),
    };
    let descriptor = FlightDescriptor::new_cmd(descriptor.as_any().encode_to_vec());
    let encoder = encoder.with_flight_descriptor(Some(descriptor));
    let mut data: Vec<FlightData> = encoder
        .build(futures::stream::iter([Ok(large)]))
        .try_collect()
        .await
        .unwrap();
    let last = data.last_mut().unwrap();
    let mut bytes = last.data_body.to_vec();
    let body = bytes.windows(4).position(|bytes| bytes == [0x28, 0xb5, 0x2f, 0xfd]);
    let length = body.expect("zstd says what it is") - 8;
    bytes[length..length + 8].copy_from_slice(&(i64::MAX / 2).to_le_bytes());
    last.data_body = bytes.into();
    let refused = client.do_put(futures::stream::iter(data)).await.unwrap_err();
    is_the_clients(&refused, "a bomb in parameters");
    still_answers(&mut client).await;
}

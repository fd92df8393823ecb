//! The calls of Flight SQL.

use std::pin::Pin;
use std::sync::Arc;

use anabranch_access::Access;
use anabranch_front::{Demand, Prepared, QueryEngine};
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::metadata::SqlInfoData;
use arrow_flight::sql::server::{FlightSqlService, PeekableFlightDataStream};
use arrow_flight::sql::{
    ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult,
    CommandGetCatalogs, CommandGetDbSchemas, CommandGetSqlInfo, CommandGetTableTypes, CommandGetTables,
    CommandPreparedStatementQuery, CommandPreparedStatementUpdate, CommandStatementIngest, CommandStatementQuery,
    CommandStatementUpdate, DoPutPreparedStatementResult, ProstMessageExt, SqlInfo, TicketStatementQuery,
};
use arrow_flight::{
    Action, FlightDescriptor, FlightEndpoint, FlightInfo, HandshakeRequest, HandshakeResponse, IpcMessage, SchemaAsIpc,
    Ticket,
};
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt};
use prost::Message;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use crate::auth::{self, Credential};
use crate::catalog;
use crate::error::status;
use crate::handle::{Handle, MAX_HANDLE_BYTES};
use crate::ipc;

/// Answers Flight SQL out of the query engine.
#[derive(Clone)]
pub(crate) struct Service {
    engine: Arc<dyn QueryEngine>,
    access: Access,
    info: Arc<SqlInfoData>,
}

type Data = BoxStream<'static, Result<arrow_flight::FlightData, Status>>;
type Answer = Response<Data>;
/// Columns and rows that are known at once.
type Small = (SchemaRef, RecordBatch);

impl Service {
    pub(crate) fn new(engine: Arc<dyn QueryEngine>, access: Access, info: SqlInfoData) -> Self {
        Self {
            engine,
            access,
            info: Arc::new(info),
        }
    }

    async fn prepare(&self, sql: &str, metadata: &MetadataMap) -> Result<Prepared, Status> {
        if sql.len() > MAX_HANDLE_BYTES / 4 {
            return Err(Status::invalid_argument("the query is too long"));
        }
        let principal = auth::principal(&self.access, metadata).await?;
        self.engine.prepare(sql, &principal).await.map_err(status)
    }

    /// Runs a query; batches follow as they are computed.
    async fn run(&self, handle: &Handle, metadata: &MetadataMap) -> Result<Answer, Status> {
        let principal = auth::principal(&self.access, metadata).await?;
        let demand: Demand = auth::demand(metadata)?;
        let prepared = self.engine.prepare(&handle.sql, &principal).await.map_err(status)?;
        let running = self.engine.run(&prepared, handle.values()?, &demand, &principal).await;
        let running = running.map_err(status)?;
        metrics::counter!("anabranch_flight_sql_queries_total").increment(1);
        let coverage = serde_json::to_vec(&running.coverage)
            .map_err(|error| Status::internal(format!("coverage cannot be written: {error}")))?;
        let batches = running
            .batches
            .map_err(|error| FlightError::Tonic(Box::new(status(error))));
        let encoded = FlightDataEncoderBuilder::new()
            .with_schema(running.schema)
            .with_metadata(coverage.into())
            .build(batches);
        Ok(Response::new(encoded.map_err(Status::from).boxed()))
    }

    /// Says where the answer to a command is: here, under the command itself.
    fn announce(
        request: Request<FlightDescriptor>,
        schema: &Schema,
        ticket: Bytes,
    ) -> Result<Response<FlightInfo>, Status> {
        let endpoint = FlightEndpoint::new().with_ticket(Ticket::new(ticket));
        let info = FlightInfo::new()
            .try_with_schema(schema)
            .map_err(|error| Status::internal(error.to_string()))?
            .with_endpoint(endpoint)
            .with_descriptor(request.into_inner());
        Ok(Response::new(info))
    }

    fn small(made: Result<Small, FlightError>) -> Result<Answer, Status> {
        let (schema, batch) = made.map_err(Status::from)?;
        let encoded = FlightDataEncoderBuilder::new()
            .with_schema(schema)
            .build(futures::stream::iter([Ok(batch)]));
        Ok(Response::new(encoded.map_err(Status::from).boxed()))
    }
}

/// What is wrong with something that a client sent.
fn of_client(error: FlightError) -> Status {
    match error {
        FlightError::Tonic(status) => *status,
        other => ipc::bad(&other.to_string()),
    }
}

fn read_only() -> Status {
    Status::permission_denied("views are read-only; they are declared in views.sql, and events are sent to /v1/ingest")
}

/// A schema as one message.
fn message_of(schema: &Schema) -> Result<Bytes, Status> {
    let options = arrow::ipc::writer::IpcWriteOptions::default();
    let IpcMessage(bytes) = SchemaAsIpc::new(schema, &options)
        .try_into()
        .map_err(|error: arrow::error::ArrowError| Status::internal(error.to_string()))?;
    Ok(bytes)
}

#[tonic::async_trait]
impl FlightSqlService for Service {
    type FlightService = Self;

    /// Takes Basic credentials, and says which token to send with each call: the one that was the password.
    async fn do_handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Pin<Box<dyn Stream<Item = Result<HandshakeResponse, Status>> + Send>>>, Status> {
        auth::principal(&self.access, request.metadata()).await?;
        let token = match auth::credential(request.metadata())? {
            Credential::Bearer(token) => token,
            Credential::Basic { password, .. } if !password.is_empty() => password,
            // Everybody is let in, and a client that must have a token gets a word.
            Credential::Basic { .. } | Credential::None => "anonymous".to_owned(),
        };
        let answer = HandshakeResponse {
            protocol_version: 0,
            payload: Bytes::copy_from_slice(token.as_bytes()),
        };
        let answers: Pin<Box<dyn Stream<Item = _> + Send>> = Box::pin(futures::stream::iter([Ok(answer)]));
        let mut response = Response::new(answers);
        let bearer = format!("Bearer {token}").parse();
        let bearer = bearer.map_err(|_| Status::unauthenticated("a token is printable ASCII"))?;
        response.metadata_mut().insert("authorization", bearer);
        Ok(response)
    }

    async fn get_flight_info_statement(
        &self,
        query: CommandStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let prepared = self.prepare(&query.query, request.metadata()).await?;
        let ticket = TicketStatementQuery {
            statement_handle: Handle::new(query.query).write(),
        };
        Self::announce(request, &prepared.schema, ticket.as_any().encode_to_vec().into())
    }

    async fn get_flight_info_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let handle = Handle::read(&query.prepared_statement_handle)?;
        let prepared = self.prepare(&handle.sql, request.metadata()).await?;
        Self::announce(request, &prepared.schema, query.as_any().encode_to_vec().into())
    }

    async fn get_flight_info_catalogs(
        &self,
        query: CommandGetCatalogs,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        auth::principal(&self.access, request.metadata()).await?;
        let schema = query.into_builder().schema();
        Self::announce(request, &schema, query.as_any().encode_to_vec().into())
    }

    async fn get_flight_info_schemas(
        &self,
        query: CommandGetDbSchemas,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        auth::principal(&self.access, request.metadata()).await?;
        let schema = query.clone().into_builder().schema();
        Self::announce(request, &schema, query.as_any().encode_to_vec().into())
    }

    async fn get_flight_info_tables(
        &self,
        query: CommandGetTables,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        auth::principal(&self.access, request.metadata()).await?;
        let schema = query.clone().into_builder().schema();
        Self::announce(request, &schema, query.as_any().encode_to_vec().into())
    }

    async fn get_flight_info_table_types(
        &self,
        query: CommandGetTableTypes,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        auth::principal(&self.access, request.metadata()).await?;
        let schema = query.into_builder().schema();
        Self::announce(request, &schema, query.as_any().encode_to_vec().into())
    }

    async fn get_flight_info_sql_info(
        &self,
        query: CommandGetSqlInfo,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        auth::principal(&self.access, request.metadata()).await?;
        Self::announce(request, &self.info.schema(), query.as_any().encode_to_vec().into())
    }

    async fn do_get_statement(
        &self,
        ticket: TicketStatementQuery,
        request: Request<Ticket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        self.run(&Handle::read(&ticket.statement_handle)?, request.metadata())
            .await
    }

    async fn do_get_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<Ticket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        self.run(&Handle::read(&query.prepared_statement_handle)?, request.metadata())
            .await
    }

    async fn do_get_catalogs(
        &self,
        query: CommandGetCatalogs,
        request: Request<Ticket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        auth::principal(&self.access, request.metadata()).await?;
        Self::small(catalog::catalogs(query))
    }

    async fn do_get_schemas(
        &self,
        query: CommandGetDbSchemas,
        request: Request<Ticket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        auth::principal(&self.access, request.metadata()).await?;
        Self::small(catalog::schemas(query))
    }

    async fn do_get_tables(
        &self,
        query: CommandGetTables,
        request: Request<Ticket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        let principal = auth::principal(&self.access, request.metadata()).await?;
        Self::small(catalog::tables(query, &self.engine.relations(&principal)))
    }

    async fn do_get_table_types(
        &self,
        query: CommandGetTableTypes,
        request: Request<Ticket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        auth::principal(&self.access, request.metadata()).await?;
        Self::small(catalog::table_types(query))
    }

    async fn do_get_sql_info(
        &self,
        query: CommandGetSqlInfo,
        request: Request<Ticket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        auth::principal(&self.access, request.metadata()).await?;
        let batch = query.into_builder(&self.info).build();
        Self::small(batch.map(|batch| (self.info.schema(), batch)))
    }

    async fn do_put_prepared_statement_query(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<DoPutPreparedStatementResult, Status> {
        auth::principal(&self.access, request.metadata()).await?;
        let handle = Handle::read(&query.prepared_statement_handle)?;
        let mut received = 0;
        let data = request.into_inner().map(move |message| {
            let message = message.map_err(FlightError::from)?;
            // What is sent along without a header is no message.
            if !message.data_header.is_empty() {
                ipc::check(&message.data_header).map_err(|status| FlightError::Tonic(Box::new(status)))?;
            }
            received += message.data_body.len() + message.data_header.len();
            if received > MAX_HANDLE_BYTES {
                return Err(FlightError::Tonic(Box::new(Status::invalid_argument(
                    "the parameters are too large",
                ))));
            }
            Ok(message)
        });
        let mut batches = FlightRecordBatchStream::new_from_flight_data(data);
        let mut rows = Vec::new();
        while let Some(batch) = ipc::decoding(batches.try_next()).await?.map_err(of_client)? {
            if batch.num_rows() > 0 {
                rows.push(batch);
            }
            if rows.len() > 1 {
                break;
            }
        }
        let schema = batches.schema().cloned().unwrap_or_else(|| Arc::new(Schema::empty()));
        Ok(DoPutPreparedStatementResult {
            prepared_statement_handle: Some(handle.with_values(&schema, &rows)?.write()),
        })
    }

    async fn do_put_statement_update(
        &self,
        _: CommandStatementUpdate,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        auth::principal(&self.access, request.metadata()).await?;
        Err(read_only())
    }

    async fn do_put_statement_ingest(
        &self,
        _: CommandStatementIngest,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        auth::principal(&self.access, request.metadata()).await?;
        Err(read_only())
    }

    async fn do_put_prepared_statement_update(
        &self,
        _: CommandPreparedStatementUpdate,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        auth::principal(&self.access, request.metadata()).await?;
        Err(read_only())
    }

    async fn do_action_create_prepared_statement(
        &self,
        query: ActionCreatePreparedStatementRequest,
        request: Request<Action>,
    ) -> Result<ActionCreatePreparedStatementResult, Status> {
        let prepared = self.prepare(&query.query, request.metadata()).await?;
        let parameters = prepared.parameters.iter().enumerate().map(|(index, kind)| {
            // What nothing tells is taken as text.
            Field::new(format!("${}", index + 1), kind.clone().unwrap_or(DataType::Utf8), true)
        });
        let parameters = Schema::new(parameters.collect::<Vec<_>>());
        Ok(ActionCreatePreparedStatementResult {
            prepared_statement_handle: Handle::new(query.query).write(),
            dataset_schema: message_of(&prepared.schema)?,
            parameter_schema: message_of(&parameters)?,
        })
    }

    /// Nothing is kept, so nothing is closed.
    async fn do_action_close_prepared_statement(
        &self,
        _: ActionClosePreparedStatementRequest,
        request: Request<Action>,
    ) -> Result<(), Status> {
        auth::principal(&self.access, request.metadata()).await?;
        Ok(())
    }

    async fn register_sql_info(&self, _: i32, _: &SqlInfo) {}
}

#[cfg(test)]
mod tests;

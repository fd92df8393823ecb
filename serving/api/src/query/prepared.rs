//! A statement that was checked and planned, and what it still needs: values for its parameters.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use anabranch_front::parameter_types;
use anabranch_view::View;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::ParamValues;
use datafusion::common::ScalarValue;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::Statement;

use super::convert;
use super::direct::Direct;
use crate::Error;

/// More parameters than anybody writes.
const MAX_PARAMETERS: usize = 65_535;

/// A prepared query. Cheap to clone; it pins nothing, so it may be kept as long as anybody likes.
#[derive(Clone)]
pub struct Prepared {
    pub(crate) inner: Arc<Planned>,
    schema: SchemaRef,
}

/// A statement, planned over the views that answer at this moment.
pub(crate) struct Planned {
    pub(crate) statement: Statement,
    pub(crate) plan: LogicalPlan,
    /// The views it reads.
    pub(crate) views: Vec<View>,
    /// Types of `$1`, `$2`, …; `None` where nothing in the query says what it must be.
    pub(crate) parameters: Vec<Option<DataType>>,
    /// How it is answered when it is plain and reads few rows.
    pub(crate) direct: Option<Direct>,
    /// Columns of the answer, once somebody has asked for them.
    pub(crate) columns: OnceLock<SchemaRef>,
}

impl Prepared {
    /// `rules` settle the types of its columns.
    pub(crate) fn new(inner: Arc<Planned>, rules: &SessionState) -> Result<Self, Error> {
        let schema = match inner.columns.get() {
            Some(known) => Arc::clone(known),
            None => {
                let found = inner.schema(rules)?;
                Arc::clone(inner.columns.get_or_init(|| found))
            }
        };
        Ok(Self { inner, schema })
    }

    /// Columns of the answer.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Types of `$1`, `$2`, …; `None` where nothing in the query says what it must be (text will do).
    pub fn parameters(&self) -> &[Option<DataType>] {
        &self.inner.parameters
    }
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prepared")
            .field("statement", &self.inner.statement.to_string())
            .field("parameters", &self.inner.parameters)
            .finish_non_exhaustive()
    }
}

impl Planned {
    /// Columns of the answer, as planning settles them.
    fn schema(&self, rules: &SessionState) -> Result<SchemaRef, Error> {
        let LogicalPlan::Explain(_) = &self.plan else {
            let nulls = self.parameters.iter().map(|data_type| {
                let data_type = data_type.as_ref().unwrap_or(&DataType::Utf8);
                ScalarValue::try_from(data_type).map_err(Error::from_query)
            });
            let plan = self.bound(nulls.collect::<Result<_, _>>()?)?;
            let options = rules.config_options();
            let settled = rules
                .analyzer()
                .execute_and_check(plan, options, |_, _| {})
                .map_err(Error::from_query)?;
            return Ok(columns(&self.plan, settled.schema().as_arrow()));
        };
        Ok(columns(&self.plan, self.plan.schema().as_arrow()))
    }

    /// Values for the parameters, each cast to what the query needs.
    ///
    /// # Errors
    /// When there are too few or too many, or one is not of its type.
    pub(crate) fn converted(&self, values: Vec<ScalarValue>) -> Result<Vec<ScalarValue>, Error> {
        if values.len() != self.parameters.len() {
            return Err(Error::Sql {
                message: format!(
                    "the query has {} parameters, but {} values were given",
                    self.parameters.len(),
                    values.len()
                ),
                hint: (values.len() < self.parameters.len())
                    .then(|| "send one value for each of $1, $2, … in \"parameters\"".into()),
            });
        }
        let values = values.into_iter().zip(&self.parameters).enumerate();
        let values = values.map(|(index, (value, wanted))| {
            let wanted = wanted.as_ref().filter(|wanted| **wanted != value.data_type());
            let Some(wanted) = wanted else {
                return Ok(value);
            };
            convert::parameter(index + 1, &value, wanted)
        });
        values.collect()
    }

    /// The plan with converted values in the place of parameters.
    ///
    /// # Errors
    /// When one cannot stand there.
    pub(crate) fn bound(&self, values: Vec<ScalarValue>) -> Result<LogicalPlan, Error> {
        if values.is_empty() {
            return Ok(self.plan.clone());
        }
        self.plan
            .clone()
            .replace_params_with_values(&ParamValues::from(values))
            .map_err(Error::from_query)
    }
}

/// The parameters of a plan, in their order.
pub(crate) fn parameters(plan: &LogicalPlan) -> Result<Vec<Option<DataType>>, Error> {
    let mut numbered = BTreeMap::new();
    for (name, data_type) in parameter_types(plan).map_err(Error::from_query)? {
        let number = name.strip_prefix('$').and_then(|number| number.parse::<usize>().ok());
        let number = number.filter(|number| (1..=MAX_PARAMETERS).contains(number));
        let Some(number) = number else {
            return Err(Error::Sql {
                message: format!("{name} is no parameter"),
                hint: Some("write parameters as $1, $2, …".into()),
            });
        };
        numbered.insert(number, data_type);
    }
    let last = numbered.keys().next_back().copied().unwrap_or(0);
    Ok((1..=last).map(|number| numbered.remove(&number).flatten()).collect())
}

/// Names as the query wrote them (planning may change those of duplicates), types as they were computed.
pub(crate) fn columns(plan: &LogicalPlan, computed: &Schema) -> SchemaRef {
    let written = plan.schema().fields();
    if written.len() != computed.fields().len() {
        return Arc::new(computed.clone());
    }
    let fields = written.iter().zip(computed.fields());
    let fields: Vec<Field> = fields
        .map(|(written, computed)| Field::new(written.name(), computed.data_type().clone(), true))
        .collect();
    Arc::new(Schema::new(fields))
}

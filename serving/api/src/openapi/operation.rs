use serde_json::{Map, Value, json};

/// One method of one path, as it is built up.
pub(super) struct Operation {
    path: &'static str,
    method: &'static str,
    described: Map<String, Value>,
    parameters: Vec<Value>,
    responses: Map<String, Value>,
}

/// `{"$ref": …}` to a schema of [`super::schemas`].
pub(super) fn schema(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// A media type with what it carries.
pub(super) fn content(media: &str, schema: &Value) -> (String, Value) {
    (media.to_owned(), json!({"schema": schema}))
}

impl Operation {
    /// `id` names the operation in generated clients; `summary` says in a few words what it does.
    pub(super) fn new(
        tag: &str,
        method: &'static str,
        path: &'static str,
        id: &'static str,
        summary: &'static str,
    ) -> Self {
        let mut described = Map::new();
        described.insert("tags".into(), json!([tag]));
        described.insert("operationId".into(), json!(id));
        described.insert("summary".into(), json!(summary));
        let operation = Self {
            path,
            method,
            described,
            parameters: Vec::new(),
            responses: Map::new(),
        };
        // A defect of ours; no operation wants one, and every one can have it.
        operation.errors(&[500])
    }

    /// What the summary leaves open.
    pub(super) fn more(mut self, description: &str) -> Self {
        self.described.insert("description".into(), json!(description));
        self
    }

    /// A part of the path.
    pub(super) fn at(mut self, name: &str, schema: &Value, example: Value, description: &str) -> Self {
        self.parameters.push(json!({
            "name": name, "in": "path", "required": true, "schema": schema, "example": example, "description": description,
        }));
        self
    }

    /// An optional parameter of the query string.
    pub(super) fn takes(mut self, name: &str, schema: &Value, example: Value, description: &str) -> Self {
        self.parameters.push(
            json!({"name": name, "in": "query", "schema": schema, "example": example, "description": description}),
        );
        self
    }

    /// A parameter that is described in full.
    pub(super) fn parameter(mut self, parameter: Value) -> Self {
        self.parameters.push(parameter);
        self
    }

    /// A body of one media type.
    pub(super) fn body(
        mut self,
        media: &str,
        schema: &Value,
        example: &Value,
        required: bool,
        description: &str,
    ) -> Self {
        self.described.insert(
            "requestBody".into(),
            json!({
                "required": required, "description": description,
                "content": {media: {"schema": schema, "example": example}},
            }),
        );
        self
    }

    /// A JSON answer.
    pub(super) fn answers(self, status: u16, description: &str, schema: &Value) -> Self {
        self.answers_in(status, description, [content("application/json", schema)])
    }

    /// An answer in one of several media types.
    pub(super) fn answers_in<const N: usize>(
        mut self,
        status: u16,
        description: &str,
        content: [(String, Value); N],
    ) -> Self {
        let content: Map<String, Value> = content.into_iter().collect();
        self.responses.insert(
            status.to_string(),
            json!({"description": description, "content": content}),
        );
        self
    }

    /// Errors that the operation can answer, by status.
    pub(super) fn errors(mut self, statuses: &[u16]) -> Self {
        for status in statuses {
            let answer = json!({
                "description": meaning(*status),
                "content": {"application/json": {"schema": schema("Error")}},
            });
            self.responses.insert(status.to_string(), answer);
        }
        self
    }

    /// As [`described`](Self::described), with what those are answered who may not ask, or ask too often.
    pub(super) fn described_for_strangers(self) -> (String, &'static str, Value) {
        let guarded = self.path.starts_with("/v1/");
        let whole = if guarded { self.errors(&[401, 403, 429]) } else { self };
        whole.described()
    }

    /// Path, method, and the operation object.
    fn described(self) -> (String, &'static str, Value) {
        let Self {
            path,
            method,
            mut described,
            parameters,
            mut responses,
        } = self;
        if !parameters.is_empty() {
            described.insert("parameters".into(), Value::Array(parameters));
        }
        responses.sort_keys();
        described.insert("responses".into(), Value::Object(responses));
        (path.to_owned(), method, Value::Object(described))
    }
}

/// What an error status means, whichever operation answers it.
fn meaning(status: u16) -> &'static str {
    match status {
        400 => "The request is wrong; the message says what to change.",
        401 => "A valid credential is needed.",
        403 => "The credential does not permit it, or a page of another origin asked.",
        404 => "There is no such thing; the hint names the nearest one.",
        405 => "The path does not take this method.",
        409 => "Somebody else changed what this was based on, or it contradicts what is there.",
        413 => "The body, or the answer, is too large.",
        415 => "The body's type or encoding is not known.",
        422 => "The definition cannot be applied.",
        429 => "Too many requests; `Retry-After` says how long to wait.",
        503 => "A service that is needed does not answer, or no exact answer could be given in time; try again.",
        504 => "The query took too long, or the answer did not reach what `at_least` asks for in time.",
        507 => "The disk of the log is full; nothing more was ingested.",
        _ => "A defect of Anabranch; the log has more.",
    }
}

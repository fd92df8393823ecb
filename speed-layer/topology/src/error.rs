/// What a spout, bolt or grouping may fail with. It stops the topology.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a topology could not be built, or why it ended other than by being stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("topology {topology}: two components are called {component}")]
    DuplicateComponent { topology: String, component: String },
    #[error("topology {topology}: {component} subscribes to {upstream}, which is not declared before it")]
    UnknownComponent {
        topology: String,
        component: String,
        upstream: String,
    },
    #[error(
        "topology {topology}: {component} subscribes to stream {stream} of {upstream}, which {upstream} does not declare"
    )]
    UnknownStream {
        topology: String,
        component: String,
        upstream: String,
        stream: String,
    },
    #[error("topology {topology}: {component} subscribes to nothing")]
    Unconnected { topology: String, component: String },
    #[error("topology {topology}: {setting} must be at least 1")]
    Zero { topology: String, setting: &'static str },
    #[error("topology {topology}: cannot start a thread for {component}")]
    Thread {
        topology: String,
        component: String,
        #[source]
        source: std::io::Error,
    },
    /// A spout or bolt returned an error.
    #[error("topology {topology}: {component} (task {task}) failed: {message}")]
    Failed {
        topology: String,
        component: String,
        task: usize,
        message: String,
    },
    /// A spout or bolt panicked.
    #[error("topology {topology}: {component} (task {task}) panicked: {message}")]
    Panicked {
        topology: String,
        component: String,
        task: usize,
        message: String,
    },
    /// [`kill`](crate::Topology::kill) was called.
    #[error("topology {topology} was killed")]
    Killed { topology: String },
}

/// Why a tuple could not be emitted. A component passes it on with `?`.
#[derive(Debug, thiserror::Error)]
pub enum EmitError {
    /// The topology is being killed; the component should return.
    #[error("the topology is being killed")]
    Stopped,
    #[error("stream {0} is not declared by this component")]
    UnknownStream(String),
    #[error("the stream grouping of {subscriber} failed: {source}")]
    Grouping {
        subscriber: String,
        #[source]
        source: BoxError,
    },
    #[error("the stream grouping of {subscriber} returned {parts} parts for {tasks} tasks")]
    Parts {
        subscriber: String,
        parts: usize,
        tasks: usize,
    },
}

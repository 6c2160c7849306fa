//! What the launcher and a helper say to each other: one request, one answer, each one message.

use crate::message::Lapse;
use palisade_model::layer::Fragment;
use serde::{Deserialize, Serialize};

/// Named facts of the host and the launch.
pub(super) type Facts = Vec<(String, String)>;

/// From the launcher.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// Open the plugin: asked first. Whether the layout of this very file was checked before, and the reference section
    /// of its manifest.
    Open {
        layout_known: bool,
        reference: String,
    },
    Probe(Facts),
    /// Make the isolator; a helper has one.
    Configure(Vec<Fragment>, Facts),
    Plan(Facts),
    /// Does the isolator watch anything?
    Watch,
    /// Deal with what can be read, after a byte on the pipe.
    Ready,
    Sample,
    Finish,
}

/// From the helper.
pub(super) type Answer = Result<Reply, Lapse>;

/// What a plugin said.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    Done,
    /// Feature, support as on the seam, detail, remedy.
    Findings(Vec<(String, u8, String, String)>),
    Steps(Vec<Told>),
    /// Whether there is something to be watched from now on.
    Watches(bool),
    Figures(Vec<(String, u64)>),
    Finish(Vec<(String, u64)>, Vec<ToldHit>),
}

/// A step's envelope, and what is to be done where it is ready-made.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Told {
    pub(super) stage: String,
    pub(super) words: String,
    pub(super) why: String,
    pub(super) origin: Option<(u32, u32, u32)>,
    pub(super) demand: String,
    pub(super) after: Vec<String>,
    pub(super) clone_flags: u64,
    pub(super) concurrent: bool,
    pub(super) ready: Option<String>,
}

/// A limit that the workload ran into.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ToldHit {
    pub(super) limit: String,
    pub(super) words: String,
    pub(super) ended_it: bool,
    pub(super) origin: Option<(u32, u32, u32)>,
}

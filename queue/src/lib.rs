//! The job queue port, its in-memory implementation, and the event stream back from node to gateway.

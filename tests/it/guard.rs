//! The guard keeps deadlines and limits, and the accept thread alive.

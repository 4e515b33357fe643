//! What becomes of a cluster when something breaks.

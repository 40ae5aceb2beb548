//! The controller of the gate.

//! Every op on every instruction set of this machine against the plain reference, and against itself: a row's result
//! must have the same bits alone and in a batch, on one thread and on two, and on every instruction set.

mod adapters;
mod attention;
mod head;
mod matmul;
mod pack;
mod rows;
mod support;

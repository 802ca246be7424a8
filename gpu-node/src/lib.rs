//! Takes work from the queue, runs it on one base model for many adapters in one continuous batch, answers.

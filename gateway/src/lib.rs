//! Data plane: the OpenAI API. Authenticate, resolve, dispatch to the queue, stream back.

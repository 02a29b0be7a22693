//! The container's terminal, handed over through the console socket.

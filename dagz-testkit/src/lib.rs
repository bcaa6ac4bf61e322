//! The contract suite every dagz driver passes against its real server.

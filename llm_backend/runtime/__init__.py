"""The MPI side: ranks, the model, and what the front end and rank 0 say to each other."""

"""What commands show of jobs: progress while runs are under way, tables and pictures afterwards."""

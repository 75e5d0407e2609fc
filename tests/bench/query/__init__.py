"""`make bench-query`: the dashboards and the REST API's reports over millions of runs of one tenant."""

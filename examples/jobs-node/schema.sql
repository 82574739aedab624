-- idem needs no table of the application's. What the control notes:
CREATE TABLE sent (mail text PRIMARY KEY);

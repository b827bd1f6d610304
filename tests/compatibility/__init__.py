"""What earlier versions of metseg made keeps working: each made by the code of its time, used by that of today."""
